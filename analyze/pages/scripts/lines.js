// Values over training: a line with its band for each subset or run.

const MANY = 60; // checkpoints beyond which only those without neighbours have a marker

/**
 * Draw into `element`.
 *
 * series: [{ name, ...look, strong, points: [{ x, y, low, high, open, title }] }], y NaN where unknown; the look is
 *   that of `lookOf`; only strong ones have a band, and weak ones are thin.
 * guides: [{ y, text }]; chance: [{ x, low, high }], a grey band; chosen: a place to mark; skipped: places.
 */
function drawLines(element, { label, axis, y, series, guides = [], chance = [], chosen, skipped = [] }) {
  const width = roomOf(element);
  const bottom = y.domain[0];
  const margins = { marginLeft: 52, marginRight: 14, marginTop: 22, marginBottom: 40 };
  const inside = (value) => Math.min(Math.max(value, bottom), y.domain[1]);
  const x = trainingAxis(axis, width - margins.marginLeft - margins.marginRight);
  const marks = [ticksOf(Plot.axisY, y), Plot.areaY(chance, { x: "x", y1: (d) => inside(d.low), y2: (d) => inside(d.high),
                                      fill: "var(--tint)", ariaDescription: "what comes by chance" })];
  marks.push(Plot.ruleY(guides, { y: "y", stroke: "var(--faint)", strokeDasharray: "4,3", ariaDescription: "guide" }));
  marks.push(Plot.text(guides, { y: "y", text: "text", frameAnchor: "right", dy: -7, textAnchor: "end",
                                 fill: "var(--muted)", stroke: "var(--surface)", strokeWidth: 3 }));
  if (Number.isFinite(chosen))
    marks.push(Plot.ruleX([chosen], { stroke: "var(--faint)", ariaDescription: "chosen checkpoint" }));
  for (const one of [...series].sort((a, b) => a.strong - b.strong)) marks.push(...lineMarks(one, inside, axis.falling));
  marks.push(Plot.text(skipped, { x: (d) => d, text: () => "\u00d7", frameAnchor: "bottom", fill: "var(--warning)",
                                  fontSize: 14, ariaDescription: "skipped checkpoint" }));
  const known = series.flatMap((one) => one.points).filter((p) => Number.isFinite(p.x) && Number.isFinite(p.y));
  marks.push(Plot.tip(known, Plot.pointer({ x: "x", y: (d) => inside(d.y), title: "title", maxRadius: 60 })));
  if (x.type === "log") marks.push(ticksOf(Plot.axisX, x));
  const height = Math.round(Math.min(420, Math.max(300, width * 0.42)));
  put(element, Plot.plot({ ...frame(width, height, label), ...margins, x: { ...x, inset: 8 }, y, marks }), label);
}

/** Band, line and markers of one series. */
function lineMarks({ name, colour, dash, symbol, turn, strong, points }, inside, falling) {
  const placed = points.filter((p) => Number.isFinite(p.x));
  if (!falling) placed.sort((a, b) => a.x - b.x); // a loss may rise again: its line follows the training
  const alone = placed.filter((p, k) => Number.isFinite(p.y) && ![placed[k - 1], placed[k + 1]].some((o) => Number.isFinite(o?.y)));
  const dots = placed.length > MANY ? alone : placed.filter((p) => Number.isFinite(p.y));
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
