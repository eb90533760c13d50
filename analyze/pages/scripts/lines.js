// Values over training: a line with its band for each subset or run.

const INSET = 8; // pixels at both ends of the axis
const NARROW = 500; // pixels of a chart below which a finger finds a point from further away
const LETTER = 6.4; // pixels of a letter, on average
const BESIDE = 7; // pixels from a guide to the middle of its words
const ABOVE = 12; // pixels from the chart up to words for which it has no room
const OF_LABEL = 22; // pixels that the name of the axis takes above the chart
const OF_PINS = 18; // that names of pinned checkpoints take
const OF_SHADE = 14; // that words on shaded spans may need between them
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
  const raised = pins.length ? OF_PINS : 0;
  const marginTop = OF_LABEL + raised + (shaded.some(({ on }) => on) ? OF_SHADE : 0);
  const margins = { marginLeft: 52, marginRight: 14, marginTop, marginBottom: 40 };
  const inside = (value) => Math.min(Math.max(value, bottom), y.domain[1]);
  const x = trainingAxis(axis, width - margins.marginLeft - margins.marginRight);
  const across = Plot.scale({ x: { ...x, range: [margins.marginLeft + INSET, width - margins.marginRight - INSET] } });
  const down = Plot.scale({ y: { ...y, range: [height - margins.marginBottom, margins.marginTop] } });
  const marks = [ticksOf(Plot.axisY, y), Plot.areaY(chance, { x: "x", y1: (d) => inside(d.low), y2: (d) => inside(d.high),
                                      fill: "var(--tint)", ariaDescription: "what comes by chance" })];
  const spans = spansOf(shaded, across);
  if (spans.length) marks.push(Plot.rectX(spans, { x1: "from", x2: "to", fill: shade, fillOpacity: 0.13, ariaDescription: ofShade }));
  marks.push(Plot.ruleY(guides, { y: "y", stroke: "var(--faint)", strokeDasharray: "4,3", ariaDescription: "guide" }));
  if (Number.isFinite(chosen))
    marks.push(Plot.ruleX([chosen], { stroke: "var(--faint)", ariaDescription: "chosen checkpoint" }));
  marks.push(Plot.ruleX(pins, { x: "x", stroke: "var(--muted)", strokeDasharray: "2,3", ariaDescription: "pinned checkpoint" }));
  marks.push(Plot.text(pins, { x: "x", text: "text", frameAnchor: "top", lineAnchor: "bottom", dy: -5, textAnchor: "middle", fill: "var(--muted)" }));
  for (const one of [...series].sort((a, b) => a.strong - b.strong)) marks.push(...lineMarks(one, inside, axis.falling, across.apply));
  marks.push(Plot.text(skipped, { x: (d) => d, text: () => "\u00d7", frameAnchor: "bottom", fill: "var(--warning)",
                                  fontSize: 14, ariaDescription: "skipped checkpoint" }));
  const rules = [chosen, ...pins.map((pin) => pin.x)].filter(Number.isFinite).map((place) => down.range.map((end) => [across.apply(place), end]));
  const room = roomForWords(linesOnPage(series, across, down, inside, axis.falling), rules, across, down, raised);
  marks.push(...guideWords(guides, room, across, down));
  if (spans.length) marks.push(spanWords(spans, ofShade, shade, room, across));
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

/** Find room for words of a chart, one after the other: `room(text, places)` takes the first of the places, `[end, middle]` in
 *  pixels, where no line is and no words are, and none of the rules at checkpoints if there is one; null where lines are
 *  everywhere, for which `room.above(text, end)` is a place above the chart, left of what is there. */
function roomForWords(pieces, rules, across, down, raised) {
  const [left, right] = [Math.min(...across.range) - INSET, Math.max(...across.range) + INSET];
  const [top, bottom] = d3.extent(down.range);
  const taken = [];
  const boxAt = (text, [end, middle]) => ({ left: end - LETTER * text.length - 4, right: end + 4, top: middle - 11, bottom: middle + 11 });
  const take = (text, place) => {
    taken.push(boxAt(text, place));
    return place;
  };
  const room = (text, places) => {
    const inside = places.filter(([end, middle]) => end <= right && end - LETTER * text.length >= left && middle - BESIDE >= top && middle + BESIDE <= bottom);
    const free = (place, all) => {
      const box = boxAt(text, place);
      return !all.some((piece) => crosses(piece, box)) && !taken.some((other) => touches(box, other));
    };
    const found = inside.find((place) => free(place, [...pieces, ...rules])) ?? inside.find((place) => free(place, pieces));
    return found ? take(text, found) : null;
  };
  const above = (text, end) => {
    const others = taken.filter((box) => box.bottom < top).map((box) => box.left);
    return take(text, [Math.min(end, right, ...others), top - ABOVE - raised]);
  };
  return Object.assign(room, { above, left, right, top, bottom });
}

/** The words of the guides, each above or below its own, from the right; above the chart with a piece of their line. */
function guideWords(guides, room, across, down) {
  return guides.filter(({ text }) => text).map(({ y, text }) => {
    const ends = d3.range(room.right, room.left + LETTER * text.length, -12);
    const found = room(text, ends.flatMap((end) => [-BESIDE, BESIDE].map((dy) => [end, down.apply(y) + dy])));
    return wordsAt(found ? text : `- - ${text}`, found ?? room.above(`- - ${text}`, room.right), room, across, "var(--muted)", "meaning of a guide");
  });
}

/** What shaded spans are, in the widest of them: from its middle on to both sides, from the top down; else above it. */
function spanWords(spans, text, colour, room, across) {
  const pixels = spans.map(({ from, to }) => [across.apply(from), across.apply(to)].sort(d3.ascending));
  const [left, right] = pixels[d3.maxIndex(pixels, ([start, end]) => end - start)];
  const wide = LETTER * text.length;
  const end = Math.min(Math.max((left + right + wide) / 2, room.left + wide), room.right);
  const aside = Math.max(0, (right - left - wide) / 2);
  const ends = d3.range(0, aside + 1, 24).flatMap((step) => (step ? [end - step, end + step] : [end]));
  const heights = d3.range(room.top + ABOVE, room.bottom, 12);
  const found = room(text, heights.flatMap((middle) => ends.map((place) => [place, middle])));
  return wordsAt(text, found ?? room.above(text, end), room, across, colour, "meaning of the shade");
}

/** A mark of words that end at a place in pixels. */
function wordsAt(text, [end, middle], room, across, fill, ariaDescription) {
  return Plot.text([text], { x: () => across.invert(end), frameAnchor: "top", dy: middle - room.top, text: (words) => words,
                             lineAnchor: "middle", textAnchor: "end", fill, stroke: "var(--surface)", strokeWidth: 5, ariaDescription });
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
