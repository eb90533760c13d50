// A table of layers × checkpoints as colours, and charts beside it on the same rows.

const NAMES = { longest: 30, character: 6.4 }; // of a layer's name: characters, and pixels of one
const SMALLEST_CELL = 8; // pixels, of a cell with room for a dot

/** The height of a row: lower the more there are. */
function rowHeight(count) {
  return Math.min(17, Math.max(3, 640 / count));
}

/** Room for names at the left, and the names that fit into it; every n-th where rows are low. */
function rowAxis(rows, width) {
  const longest = Math.min(NAMES.longest, Math.floor((0.4 * width) / NAMES.character));
  const names = rows.map((row) => shortened(row, longest));
  const marginLeft = Math.ceil(Math.max(...names.map((name) => name.length), 3) * NAMES.character) + 14;
  const every = Math.max(1, Math.ceil(11 / rowHeight(rows.length)));
  const ticks = d3.range(0, rows.length, every).map((row) => row + 0.5);
  const axis = Plot.axisY(ticks, { tickFormat: (place) => names[Math.floor(place)], tickSize: 0, tickPadding: 6,
                                   label: null, fontSize: Math.min(11.5, Math.max(9, rowHeight(rows.length) * every)),
                                   fill: "var(--ink)" });
  return { axis, marginLeft };
}

const MARGINS = { marginTop: 8, marginBottom: 40, marginRight: 12 };

/** A text that is made when it is shown: making it for every cell takes longer than drawing them. */
function later(text) {
  return { toString: text };
}

/** The size of a chart of rows. */
function rowFrame(element, rows, label) {
  const width = roomOf(element);
  const height = Math.round(rowHeight(rows.length) * rows.length) + MARGINS.marginTop + MARGINS.marginBottom;
  return { ...frame(width, Math.max(height, 120), label), ...MARGINS, y: { domain: [0, rows.length], reverse: true, axis: null } };
}

/**
 * Draw into `element`; returns a function that marks a cell.
 *
 * rows: names; columns: the names of ticks; fill(row, column): a colour, or null where there is no value;
 * title(row, column): the words at the pointer; dotted(row, column): whether a dot marks the cell; choose(row, column): what a click or an arrow key does.
 */
function drawHeatMap(element, { label, rows, columns, axisLabel, fill, title, dotted, choose }) {
  const { axis, marginLeft } = rowAxis(rows, roomOf(element));
  const options = { ...rowFrame(element, rows, label), marginLeft };
  const cells = d3.range(rows.length * columns.length);
  const place = (cell) => [Math.floor(cell / columns.length), cell % columns.length];
  const inside = options.width - marginLeft - MARGINS.marginRight;
  const large = Math.min(rowHeight(rows.length), inside / columns.length) >= SMALLEST_CELL;
  const dots = large && dotted ? cells.filter((cell) => dotted(...place(cell))) : [];
  const ticks = everyOther(columns, inside);
  const chart = Plot.plot({
    ...options,
    x: { domain: [0, columns.length], ticks: ticks.map((column) => column + 0.5), label: axisLabel, labelAnchor: "center",
         labelArrow: "none", tickSize: 3, tickFormat: (at) => columns[Math.floor(at)] },
    marks: [
      hatching(),
      Plot.frame({ fill: "url(#hatching)", stroke: null }),
      Plot.raster(cells, { width: columns.length, height: rows.length, fill: (cell) => fill(...place(cell)),
                           imageRendering: "pixelated" }),
      Plot.dot(dots, { x: (cell) => place(cell)[1] + 0.5, y: (cell) => place(cell)[0] + 0.5, r: 1.4, fill: "white" }),
      axis,
      Plot.tip(cells, Plot.pointer({ x: (cell) => place(cell)[1] + 0.5, y: (cell) => place(cell)[0] + 0.5,
                                     title: (cell) => later(() => title(...place(cell))), maxRadius: 40 })),
    ],
  });
  const [x, y] = [chart.scale("x"), chart.scale("y")];
  const mark = d3.create("svg:rect").attr("class", "chosen").attr("aria-hidden", "true");
  chart.insertBefore(mark.node(), chart.lastChild); // below the words at the pointer
  chart.addEventListener("click", (event) => {
    const [left, top] = d3.pointer(event, chart);
    const cell = [Math.floor(y.invert(top)), Math.floor(x.invert(left))];
    if (cell[0] >= 0 && cell[0] < rows.length && cell[1] >= 0 && cell[1] < columns.length) choose(...cell);
  });
  put(element, chart, label);
  return (row, column) => {
    mark.attr("display", row < 0 ? "none" : null).attr("x", x.apply(column)).attr("y", y.apply(row))
      .attr("width", x.apply(column + 1) - x.apply(column)).attr("height", y.apply(row + 1) - y.apply(row));
  };
}

/** Arrow keys on a heat map's element choose its neighbours; `now` gives the chosen cell. */
function listenToArrows(element, now, choose) {
  const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  element.addEventListener("keydown", (event) => {
    const move = moves[event.key];
    if (!move) return;
    event.preventDefault(); // the page would scroll
    const [row, column] = now();
    choose(row + move[0], column + move[1]);
  });
}

/** Which columns have a tick: as many as there is room for. */
function everyOther(columns, width) {
  const longest = Math.max(...columns.map((name) => name.length), 1) * 7 + 8;
  const every = Math.max(1, Math.ceil((columns.length * longest) / width));
  return d3.range(0, columns.length, every);
}

/** What lies behind a heat map and shows where there is no value. */
function hatching() {
  return () => {
    const defs = d3.create("svg:defs");
    const pattern = defs.append("pattern").attr("id", "hatching").attr("width", 6).attr("height", 6)
      .attr("patternUnits", "userSpaceOnUse").attr("patternTransform", "rotate(45)");
    pattern.append("rect").attr("width", 6).attr("height", 6).attr("fill", "var(--tint)");
    pattern.append("line").attr("y2", 6).attr("stroke", "var(--faint)").attr("stroke-width", 1);
    return defs.node();
  };
}

const SCALE = 220; // pixels of the scale of colours

/** The scale of colours above a heat map. */
function drawScale(element, options) {
  const scale = Plot.legend({ color: options, width: SCALE + 20, height: 44, marginLeft: 4, marginRight: 16,
                              style: { fontFamily: "inherit", fontSize: "12px", background: "none" } });
  put(element, scale, `scale of colours: ${options.label}`);
}

/** A colour of the page as the browser computes it now, for what is drawn by pixels. */
function computed(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}
