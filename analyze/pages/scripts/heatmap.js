// A table of layers × checkpoints as colours, and charts beside it on the same rows.

const NAMES = { longest: 30, character: 6.4 }; // of a layer's name: characters, and pixels of one

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

const MARGINS = { marginTop: 10, marginBottom: 40, marginRight: 12 };

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
 * Draw into `element`; returns a function that marks a cell, and in its `hover` one that marks a further cell for a
 * pointer elsewhere; a row or column below 0 takes the mark away.
 *
 * rows: names; columns: the names of ticks; fill(row, column): a colour, or null for none;
 * hatched(row, column): whether the value cannot be told from chance; a cell with neither has no value and is grey;
 * title(row, column): the words at the pointer; choose(row, column): what a click or an arrow key does;
 * pins: columns to mark; pointed(row, column): told which cell is at the pointer, or null.
 */
function drawHeatMap(element, { label, rows, columns, axisLabel, fill, title, hatched = () => false, choose, pins = [], pointed = () => {} }) {
  const { axis, marginLeft } = rowAxis(rows, roomOf(element));
  const options = { ...rowFrame(element, rows, label), marginLeft };
  const cells = d3.range(rows.length * columns.length);
  const place = (cell) => [Math.floor(cell / columns.length), cell % columns.length];
  const inside = options.width - marginLeft - MARGINS.marginRight;
  const ticks = everyOther(columns, inside);
  const chart = Plot.plot({
    ...options,
    x: { domain: [0, columns.length], ticks: ticks.map((column) => column + 0.5), label: axisLabel, labelAnchor: "center",
         labelArrow: "none", tickSize: 3, tickFormat: (at) => columns[Math.floor(at)] },
    marks: [
      Plot.frame({ fill: "var(--surface)", stroke: null }),
      Plot.raster(cells, { width: columns.length, height: rows.length, fill: (cell) => fill(...place(cell)),
                           imageRendering: "pixelated" }),
      grounds(rows.length, columns.length, fill, hatched),
      axis,
      Plot.tip(cells, Plot.pointer({ x: (cell) => place(cell)[1] + 0.5, y: (cell) => place(cell)[0] + 0.5,
                                     title: (cell) => later(() => title(...place(cell))), maxRadius: 40 })),
    ],
  });
  const [x, y] = [chart.scale("x"), chart.scale("y")];
  const above = (name) => {
    const mark = d3.create(`svg:${name}`).attr("aria-hidden", "true");
    chart.insertBefore(mark.node(), chart.lastChild); // below the words at the pointer
    return mark;
  };
  for (const column of pins)
    above("path").attr("class", "pin").attr("d", `M${x.apply(column + 0.5)},${MARGINS.marginTop}l-4,-7h8z`);
  const [mark, hovered] = [above("rect").attr("class", "chosen"), above("rect").attr("class", "hovered")];
  chart.addEventListener("input", () => (chart.value === null ? pointed(null) : pointed(...place(chart.value))));
  chart.addEventListener("click", (event) => {
    const [left, top] = d3.pointer(event, chart);
    const cell = [Math.floor(y.invert(top)), Math.floor(x.invert(left))];
    if (cell[0] >= 0 && cell[0] < rows.length && cell[1] >= 0 && cell[1] < columns.length) choose(...cell);
  });
  put(element, chart, label);
  const around = (rect) => (row, column) => {
    rect.attr("display", row < 0 || column < 0 ? "none" : null).attr("x", x.apply(column)).attr("y", y.apply(row))
      .attr("width", x.apply(column + 1) - x.apply(column)).attr("height", y.apply(row + 1) - y.apply(row));
  };
  around(hovered)(-1, -1);
  return Object.assign(around(mark), { hover: around(hovered) });
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

/** Which columns have a tick: as many as there is room for, up to the margin. */
function everyOther(columns, width) {
  const character = 7; // pixels
  const longest = Math.max(...columns.map((name) => name.length), 1) * character + 8;
  const every = Math.max(1, Math.ceil((columns.length * longest) / width));
  const end = (column) => ((column + 0.5) * width) / columns.length + (columns[column].length * character) / 2;
  return d3.range(0, columns.length, every).filter((column) => column === 0 || end(column) <= width + MARGINS.marginRight);
}

const GROUNDS = { // what lies over cells: lines that stand out from the page, from dark and from bright cells
  missing: null, paper: "var(--muted)", dark: "#fdfdfd", bright: "#20242e",
};
const BRIGHT = 0.5; // luminance of a cell from which on its hatch is dark
let patterns = 0; // on the page: each has a name of its own

/** A mark that fills cells without a value with grey, and hatches those that cannot be told from chance. */
function grounds(rows, columns, fill, hatched) {
  const kind = (row, column) => {
    const colour = fill(row, column);
    if (!hatched(row, column)) return colour === null ? "missing" : null;
    return colour === null ? "paper" : luminance(colour) > BRIGHT ? "bright" : "dark";
  };
  const kinds = d3.range(rows).map((row) => d3.range(columns).map((column) => kind(row, column)));
  return (index, { x, y }) => {
    const group = d3.create("svg:g").attr("aria-hidden", "true").attr("pointer-events", "none");
    for (const [name, colour] of Object.entries(GROUNDS)) {
      const path = runs(kinds, name).map(([row, from, to]) => `M${x(from)},${y(row)}H${x(to)}V${y(row + 1)}H${x(from)}Z`).join("");
      if (!path) continue;
      const shape = group.append("path").attr("d", path).attr("class", name);
      if (colour === null) shape.attr("fill", "var(--tint)").attr("stroke", "var(--tint)").attr("stroke-width", 0.4);
      else shape.attr("fill", `url(#${hatch(group, colour)})`);
    }
    return group.node();
  };
}

/** Neighbours of one kind in a row of a table: [row, first column, column behind the last]. */
function runs(kinds, name) {
  return kinds.flatMap((line, row) => {
    const found = [];
    line.forEach((kind, column) => {
      if (kind !== name) return;
      if (found.length && found[found.length - 1][2] === column) found[found.length - 1][2] += 1;
      else found.push([row, column, column + 1]);
    });
    return found;
  });
}

/** A pattern of slanted lines in a group; its name. */
function hatch(group, colour) {
  const name = `hatch-${++patterns}`;
  const pattern = group.append("defs").append("pattern").attr("id", name).attr("width", 5).attr("height", 5)
    .attr("patternUnits", "userSpaceOnUse").attr("patternTransform", "rotate(45)");
  pattern.append("line").attr("y2", 5).attr("stroke", colour).attr("stroke-width", 1.5);
  return name;
}

/** How bright a colour is, from 0 to 1. */
function luminance(colour) {
  const { r, g, b } = d3.rgb(colour);
  return (0.2126 * r + 0.7152 * g + 0.0722 * b) / 255;
}

const SCALE = 220; // pixels of the scale of colours

/** The scale of colours above a heat map. */
function drawScale(element, options) {
  const scale = Plot.legend({ color: options, width: SCALE + 30, height: 44, marginLeft: 14, marginRight: 16,
                              style: { fontFamily: "inherit", fontSize: "12px", background: "none" } });
  put(element, scale, `scale of colours: ${options.label}`);
}
