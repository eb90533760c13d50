// The layers at one checkpoint, each with its interval and what comes by chance.

/** rows: [{ name, value, low, high, nullLow, nullHigh, open, title }]; on the rows of the heat map beside it. */
function drawProfile(element, { label, rows, x, colour, chosen, aligned, choose }) {
  const names = rows.map((row) => row.name);
  const inside = (value) => Math.min(Math.max(value, x.domain[0]), x.domain[1]);
  const { axis, marginLeft } = rowAxis(names, roomOf(element));
  const known = rows.map((row, k) => ({ ...row, k })).filter((row) => Number.isFinite(row.value));
  const banded = known.filter((row) => Number.isFinite(row.nullHigh));
  const middle = (row) => row.k + 0.5;
  const chart = Plot.plot({
    ...rowFrame(element, names, label),
    marginLeft: aligned ? 12 : marginLeft,
    x: { ...x, labelAnchor: "center" },
    marks: [
      ticksOf(Plot.axisX, { ...x, labelAnchor: "center" }),
      Plot.rect(banded, { x1: (row) => inside(row.nullLow), x2: (row) => inside(row.nullHigh), y1: "k", y2: (row) => row.k + 1,
                          fill: "var(--tint)", shapeRendering: "crispEdges", ariaDescription: "what comes by chance" }),
      Plot.ruleX([1], { stroke: "var(--faint)", strokeDasharray: "4,3", ariaDescription: "guide" }),
      chosen < 0 ? null : Plot.ruleY([chosen + 0.5], { stroke: "var(--faint)", ariaDescription: "chosen layer" }),
      Plot.ruleY(known.filter((row) => Number.isFinite(row.low)), { y: middle, x1: (row) => inside(row.low), x2: (row) => inside(row.high),
                                                                    stroke: colour, strokeWidth: 1.4, strokeOpacity: 0.55 }),
      Plot.dot(known, { x: (row) => inside(row.value), y: middle, r: Math.min(3.4, 0.45 * rowHeight(rows.length) + 0.6), stroke: colour,
                        fill: (row) => (row.open ? "var(--surface)" : colour), ariaDescription: "layer" }),
      aligned ? null : axis,
      Plot.tip(known, Plot.pointer({ x: (row) => inside(row.value), y: middle, title: "title", maxRadius: 300 })),
    ],
  });
  chart.addEventListener("click", (event) => {
    const row = Math.floor(chart.scale("y").invert(d3.pointer(event, chart)[1]));
    if (row >= 0 && row < rows.length) choose(row);
  });
  put(element, chart, label);
}
