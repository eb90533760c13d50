// Values over training: a line with its band for each subset or run.

const INSET = 8; // pixels at both ends of the axis
const NARROW = 500; // pixels of a chart below which a finger finds a point from further away
const LETTER = 6.4; // pixels of a letter, on average
const BESIDE = 7; // pixels from a guide to the middle of its words
const ROOM = 8; // pixels to the next one that a marker needs; one without neighbours has one always

/**
 * Draw into `element`.
 *
 * series: [{ name, ...look, strong, points: [{ x, y, low, high, open, title }] }], y NaN where unknown; the look is
 *   that of `lookOf`; only strong ones have a band, and weak ones are thin.
 * guides: [{ y, text }]; chance: [{ x, low, high }], a grey band; chosen: a place to mark; skipped: places;
 * pins: [{ x, text }], further places to mark; shaded: [{ x, on }], places of which those that are on are shaded, up to
 *   half way to the next ones, `ofShade`, what they are, and `shade`, their colour;
 * pointed(point): told which point of a series is at the pointer, or null; choose(x): told where a click is.
 * Returns `{ hover(x), place(pixels) }`: a function that marks a place for a pointer elsewhere, and one that
 * tells the place at pixels from the left.
 */
function drawLines(element, { label, axis, y, series, guides = [], chance = [], chosen, skipped = [], pins = [], shaded = [],
                              ofShade = "", shade = "var(--warning)", pointed = () => {}, choose }) {
  const width = roomOf(element);
  const bottom = y.domain[0];
  const height = Math.round(Math.min(420, Math.max(300, width * 0.42)));
  const margins = { marginLeft: 52, marginRight: 14, marginTop: pins.length ? 40 : 22, marginBottom: 40 };
  const inside = (value) => Math.min(Math.max(value, bottom), y.domain[1]);
  const x = trainingAxis(axis, width - margins.marginLeft - margins.marginRight);
  const across = Plot.scale({ x: { ...x, range: [margins.marginLeft + INSET, width - margins.marginRight - INSET] } });
  const down = Plot.scale({ y: { ...y, range: [height - margins.marginBottom, margins.marginTop] } });
  const marks = [ticksOf(Plot.axisY, y), ...spanMarks(spansOf(shaded, across), ofShade, shade, across), Plot.areaY(chance, { x: "x", y1: (d) => inside(d.low), y2: (d) => inside(d.high),
                                      fill: "var(--tint)", ariaDescription: "what comes by chance" })];
  marks.push(Plot.ruleY(guides, { y: "y", stroke: "var(--faint)", strokeDasharray: "4,3", ariaDescription: "guide" }));
  if (Number.isFinite(chosen))
    marks.push(Plot.ruleX([chosen], { stroke: "var(--faint)", ariaDescription: "chosen checkpoint" }));
  marks.push(Plot.ruleX(pins, { x: "x", stroke: "var(--muted)", strokeDasharray: "2,3", ariaDescription: "pinned checkpoint" }));
  marks.push(Plot.text(pins, { x: "x", text: "text", frameAnchor: "top", lineAnchor: "bottom", dy: -5, textAnchor: "middle", fill: "var(--muted)" }));
  for (const one of [...series].sort((a, b) => a.strong - b.strong)) marks.push(...lineMarks(one, inside, axis.falling, across.apply));
  marks.push(Plot.text(skipped, { x: (d) => d, text: () => "\u00d7", frameAnchor: "bottom", fill: "var(--warning)",
                                  fontSize: 14, ariaDescription: "skipped checkpoint" }));
  const rules = [chosen, ...pins.map((pin) => pin.x)].filter(Number.isFinite).map((place) => down.range.map((end) => [across.apply(place), end]));
  marks.push(...guideWords(guides, linesOnPage(series, across, down, inside, axis.falling), rules, across, down));
  const known = series.flatMap((one) => one.points).filter((p) => Number.isFinite(p.x) && Number.isFinite(p.y));
  marks.push(Plot.tip(known, Plot.pointer({ x: "x", y: (d) => inside(d.y), title: "title", maxRadius: width < NARROW ? 150 : 60 })));
  if (x.type === "log") marks.push(ticksOf(Plot.axisX, x));
  const chart = Plot.plot({ ...frame(width, height, label), ...margins, x: { ...x, inset: INSET }, y, marks });
  const placed = chart.scale("x");
  const hovered = d3.create("svg:line").attr("class", "hovered").attr("aria-hidden", "true").attr("display", "none")
    .attr("y1", margins.marginTop).attr("y2", height - margins.marginBottom);
  chart.insertBefore(hovered.node(), chart.lastChild); // below the words at the pointer
  chart.addEventListener("input", () => pointed(chart.value));
  if (choose) chart.addEventListener("click", (event) => choose(placed.invert(d3.pointer(event, chart)[0])));
  put(element, chart, label);
  return {
    hover: (place) => {
      const known = Number.isFinite(place);
      hovered.attr("display", known ? null : "none");
      if (known) hovered.attr("x1", placed.apply(place)).attr("x2", placed.apply(place));
    },
    place: (pixels) => placed.invert(pixels),
  };
}

/** Neighbouring places that are on, as `{ from, to }`: half of the way on the page to the places beside them. */
function spansOf(places, across) {
  const order = [...places].sort((a, b) => across.apply(a.x) - across.apply(b.x));
  const half = (one, other) => (other ? across.invert((across.apply(one.x) + across.apply(other.x)) / 2) : one.x);
  const spans = [];
  order.forEach((place, k) => {
    if (!place.on) return;
    if (k === 0 || !order[k - 1].on) spans.push({ from: half(place, order[k - 1]) });
    spans[spans.length - 1].to = half(place, order[k + 1]);
  });
  return spans;
}

/** Shaded spans, the widest with a word on what they are. */
function spanMarks(spans, words, colour, across) {
  if (!spans.length) return [];
  const pixels = spans.map(({ from, to }) => [across.apply(from), across.apply(to)].sort(d3.ascending));
  const [left, right] = pixels[d3.maxIndex(pixels, ([start, end]) => end - start)];
  const half = 3.2 * words.length; // pixels of the words
  const middle = Math.min(Math.max((left + right) / 2, across.range[0] + half), across.range[1] - half);
  return [
    Plot.rectX(spans, { x1: "from", x2: "to", fill: colour, fillOpacity: 0.13, ariaDescription: words }),
    Plot.text([across.invert(middle)], { x: (place) => place, text: () => words, frameAnchor: "top", dy: 5,
                          fill: colour, stroke: "var(--surface)", strokeWidth: 3 }),
  ];
}

/** The points of a line in its order. */
function inOrder(points, falling) {
  const placed = points.filter((p) => Number.isFinite(p.x));
  if (!falling) placed.sort((a, b) => a.x - b.x); // a loss may rise again: its line follows the training
  return placed;
}

/** The pieces of all lines in pixels, `[[x, y], [x, y]]`; a point without neighbours is one of no length. */
function linesOnPage(series, across, down, inside, falling) {
  return series.flatMap(({ points }) => {
    const placed = inOrder(points, falling).map((p) => [across.apply(p.x), Number.isFinite(p.y) ? down.apply(inside(p.y)) : NaN]);
    return placed.map((p, k) => [Number.isFinite(placed[k - 1]?.[1]) ? placed[k - 1] : p, p]).filter(([, p]) => Number.isFinite(p[1]));
  });
}

/** The words of the guides, each above or below its own where no line is, from the right, and none of the rules at checkpoints
 *  if there is room; where lines are everywhere, above the chart. */
function guideWords(guides, pieces, rules, across, down) {
  const [left, right] = [Math.min(...across.range) - INSET, Math.max(...across.range) + INSET];
  const top = Math.min(...down.range);
  const taken = [];
  return guides.filter(({ text }) => text).map(({ y, text }) => {
    const wide = LETTER * text.length;
    const boxAt = ([end, middle]) => ({ left: end - wide - 4, right: end + 4, top: middle - 11, bottom: middle + 11 });
    const free = (box, all) => !all.some((piece) => crosses(piece, box)) && !taken.some((other) => touches(box, other));
    const places = d3.range(right, left + wide, -12).flatMap((end) => [-BESIDE, BESIDE].map((dy) => [end, down.apply(y) + dy]));
    const inside = places.filter(([, middle]) => middle - BESIDE >= top && middle + BESIDE <= Math.max(...down.range));
    const found = inside.find((place) => free(boxAt(place), [...pieces, ...rules])) ?? inside.find((place) => free(boxAt(place), pieces));
    const [end, middle] = found ?? [Math.min(right, ...taken.filter((box) => box.bottom < top).map((box) => box.left)), top - 12];
    taken.push(boxAt([end, middle]));
    return Plot.text([found ? text : `- - ${text}`], { x: () => across.invert(end), frameAnchor: "top", dy: middle - top, text: (words) => words,
                             lineAnchor: "middle", textAnchor: "end", fill: "var(--muted)", stroke: "var(--surface)", strokeWidth: 5,
                             ariaDescription: "meaning of a guide" });
  });
}

function touches(a, b) {
  return a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
}

/** Whether a piece of a line passes through a box. */
function crosses([[x1, y1], [x2, y2]], box) {
  let [from, to] = [0, 1]; // the part of the piece that is inside of the bounds seen so far
  for (const [start, change, low, high] of [[x1, x2 - x1, box.left, box.right], [y1, y2 - y1, box.top, box.bottom]]) {
    if (change === 0) {
      if (start < low || start > high) return false;
      continue;
    }
    const [enter, leave] = [(low - start) / change, (high - start) / change].sort(d3.ascending);
    [from, to] = [Math.max(from, enter), Math.min(to, leave)];
    if (from > to) return false;
  }
  return true;
}

/** Band, line and markers of one series. */
function lineMarks({ name, colour, dash, symbol, turn, strong, points }, inside, falling, across) {
  const placed = inOrder(points, falling);
  const alone = placed.filter((p, k) => Number.isFinite(p.y) && ![placed[k - 1], placed[k + 1]].some((o) => Number.isFinite(o?.y)));
  const dots = withRoom(placed.filter((p) => Number.isFinite(p.y)), (p) => across(p.x), new Set(alone));
  const ends = { y1: (p) => inside(p.low), y2: (p) => inside(p.high) };
  const path = { x: "x", y: (p) => (Number.isFinite(p.y) ? inside(p.y) : NaN) };
  const opacity = strong ? 1 : 0.45;
  const width = strong ? 2.2 : 1.2;
  const line = Plot.lineY(placed, { ...path, stroke: colour, strokeWidth: width, strokeDasharray: dashes(dash, width),
                                    strokeOpacity: opacity, ariaDescription: name });
  const dot = Plot.dot(dots, { ...path, r: strong ? 3.2 : 2, symbol, rotate: turn, stroke: colour, strokeOpacity: opacity,
                               fill: (p) => (p.open ? "var(--surface)" : colour), fillOpacity: strong ? 1 : 0.45 });
  if (!strong) return [line, dot];
  const banded = placed.map((p) => ({ ...p, low: p.low ?? NaN, high: p.high ?? NaN }));
  return [
    Plot.areaY(banded, { x: "x", ...ends, fill: colour, fillOpacity: 0.15, ariaDescription: `95 % band of ${name}` }),
    Plot.ruleX(alone.filter((p) => Number.isFinite(p.low)), { x: "x", ...ends, stroke: colour, strokeWidth: 1.4 }),
    line,
    dot,
  ];
}

/** Points that are not close to the next one. */
function withRoom(points, across, alone) {
  const gap = (p, other) => (other ? Math.abs(across(p) - across(other)) : Infinity);
  return points.filter((p, k) => alone.has(p) || Math.min(gap(p, points[k - 1]), gap(p, points[k + 1])) >= ROOM);
}

/** The lengths of a dash in pixels, of a line of this width; undefined for a solid one. */
function dashes(dash, width) {
  return dash.length ? dash.map((length) => length * width).join(",") : undefined;
}

const SYMBOLS = { circle: d3.symbolCircle, cross: d3.symbolCross, diamond: d3.symbolDiamond, square: d3.symbolSquare,
                  star: d3.symbolStar, triangle: d3.symbolTriangle, wye: d3.symbolWye };

/** Swatches and names; with `toggle`, buttons that hide and show. */
function drawLegend(element, series, toggle) {
  const items = series.map((one, k) => {
    const item = document.createElement("li");
    const inner = document.createElement(toggle ? "button" : "span");
    const swatch = d3.create("svg").attr("width", 44).attr("height", 12).attr("aria-hidden", "true");
    swatch.append("line").attr("x2", 44).attr("y1", 6).attr("y2", 6).attr("stroke", one.colour)
      .attr("stroke-width", 2.2).attr("stroke-dasharray", dashes(one.dash, 2.2) ?? null);
    swatch.append("path").attr("d", d3.symbol(SYMBOLS[one.symbol], 40)()).attr("fill", one.colour)
      .attr("transform", `translate(22,6) rotate(${one.turn})`);
    inner.append(swatch.node(), one.name);
    if (toggle) {
      inner.type = "button";
      inner.setAttribute("aria-pressed", !one.hidden);
      inner.addEventListener("click", () => {
        toggle(k);
        element.querySelectorAll("button")[k].focus();
      });
    }
    item.append(inner);
    return item;
  });
  element.replaceChildren(...items);
}
