// The layers at one checkpoint, each with its interval and what comes by chance.

/**
 * rows: [{ name, value, low, high, nullLow, nullHigh, open, title }]; on the rows of the heat map beside it.
 * others: [{ ...look, values, titles }], the same rows at pinned checkpoints; pointed(row): told which row is at the
 * pointer, or null. Returns a function that marks a row for a pointer elsewhere; below 0 none.
 */
function drawProfile(element, { label, rows, others, x, guide, colour, symbol, turn, chosen, aligned, choose, pointed }) {
  const names = rows.map((row) => row.name);
  const inside = (value) => Math.min(Math.max(value, x.domain[0]), x.domain[1]);
  const { axis, marginLeft } = rowAxis(names, roomOf(element));
  const known = rows.map((row, k) => ({ ...row, k })).filter((row) => Number.isFinite(row.value));
  const banded = known.filter((row) => Number.isFinite(row.nullHigh));
  const middle = (row) => row.k + 0.5;
  const further = others.map((other) => ({
    ...other, points: other.values.map((value, k) => ({ value, k, title: other.titles[k] })).filter(({ value }) => Number.isFinite(value)),
  }));
  const size = Math.min(3.4, 0.45 * rowHeight(rows.length) + 0.6);
  const chart = Plot.plot({
    ...rowFrame(element, names, label),
    marginLeft: aligned ? 12 : marginLeft,
    x: { ...x, labelAnchor: "center" },
    marks: [
      ticksOf(Plot.axisX, { ...x, labelAnchor: "center" }),
      Plot.rect(banded, { x1: (row) => inside(row.nullLow), x2: (row) => inside(row.nullHigh), y1: "k", y2: (row) => row.k + 1,
                          fill: "var(--tint)", shapeRendering: "crispEdges", ariaDescription: "what comes by chance" }),
      Plot.ruleX([guide], { stroke: "var(--faint)", strokeDasharray: "4,3", ariaDescription: "guide" }),
      chosen < 0 ? null : Plot.ruleY([chosen + 0.5], { stroke: "var(--faint)", ariaDescription: "chosen layer" }),
      Plot.ruleY(known.filter((row) => Number.isFinite(row.low)), { y: middle, x1: (row) => inside(row.low), x2: (row) => inside(row.high),
                                                                    stroke: colour, strokeWidth: 1.4, strokeOpacity: 0.55 }),
      ...further.map((other) => Plot.dot(other.points, { x: (row) => inside(row.value), y: middle, r: size, symbol: other.symbol, rotate: other.turn,
                                                         stroke: other.colour, fill: other.colour, fillOpacity: 0.5, ariaDescription: "pinned" })),
      Plot.dot(known, { x: (row) => inside(row.value), y: middle, r: size, symbol, rotate: turn, stroke: colour,
                        fill: (row) => (row.open ? "var(--surface)" : colour), ariaDescription: "layer" }),
      aligned ? null : axis,
      Plot.tip([...known, ...further.flatMap(({ points }) => points)], Plot.pointer({ x: (row) => inside(row.value), y: middle, title: "title", maxRadius: 300 })),
    ],
  });
  chart.addEventListener("click", (event) => {
    const row = Math.floor(chart.scale("y").invert(d3.pointer(event, chart)[1]));
    if (row >= 0 && row < rows.length) choose(row);
  });
  const hovered = d3.create("svg:rect").attr("class", "hovered").attr("aria-hidden", "true").attr("display", "none")
    .attr("x", aligned ? 12 : marginLeft).attr("width", roomOf(element) - (aligned ? 12 : marginLeft) - MARGINS.marginRight);
  chart.insertBefore(hovered.node(), chart.lastChild); // below the words at the pointer
  chart.addEventListener("input", () => pointed(chart.value?.k ?? null));
  put(element, chart, label);
  const y = chart.scale("y");
  return (row) => {
    hovered.attr("display", row < 0 ? "none" : null).attr("y", y.apply(row)).attr("height", y.apply(row + 1) - y.apply(row));
  };
}
