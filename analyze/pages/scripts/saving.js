// Charts as files: SVG with its styles, PNG at twice the size, and the numbers as CSV.

const SHARPNESS = 2; // pixels of a PNG file for one of the page
const PADDING = 16; // pixels around a chart that is saved
const POINTED = '[aria-label="tip"], .hovered, title'; // what stands at the pointer is not part of a chart
const INHERITED = ["font-family", "font-size", "font-variant-numeric", "color"];

/** Buttons below a chart that save it. `table` gives its numbers as they are now: rows of cells, the first one the
 *  names of the columns with their units; numbers that are not finite are empty cells. `alone` draws a chart that
 *  needs its neighbour on the page so that it can stand without, or as it was: `alone(true)`, `alone(false)`. */
function offerFiles(element, table, alone = () => {}) {
  const figure = element.closest("figure");
  const bar = document.createElement("div");
  bar.className = "files scripted";
  bar.setAttribute("role", "group");
  const title = () => figure.querySelector("figcaption.above")?.textContent ?? element.firstChild.getAttribute("aria-label");
  const name = (kind) => `${fileName(document.title)}_${fileName(title())}.${kind}`;
  const taken = () => {
    alone(true);
    const found = picture(element, title());
    alone(false);
    return found;
  };
  const savers = {
    PNG: async () => download(await asPng(taken()), name("png")),
    SVG: () => download(new Blob([taken().text], { type: "image/svg+xml" }), name("svg")),
    CSV: () => download(new Blob([asCsv(table())], { type: "text/csv" }), name("csv")),
  };
  bar.setAttribute("aria-label", "Save this chart");
  bar.append("Save as");
  for (const [kind, save] of Object.entries(savers)) {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: kind });
    button.addEventListener("click", save);
    bar.append(button);
  }
  figure.append(bar);
}

/** A name that every system of files takes. */
function fileName(text) {
  return text.replace(/[^\p{L}\p{N}.-]+/gu, "_").replace(/^[_.]+|[_.]+$/g, "").slice(0, 100) || "chart";
}

function download(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // some browsers read it later
}

/** Comma-separated values. An apostrophe stands before a name that a spreadsheet would run as a formula. */
function asCsv(rows) {
  const cell = (value) => {
    if (typeof value === "number") return Number.isFinite(value) ? String(Number(value.toPrecision(7))) : ""; // float32
    const text = data.formula.includes(value.trimStart()[0] ?? " ") ? `'${value}` : value;
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return rows.map((row) => `${row.map(cell).join(",")}\n`).join("");
}

/** A chart with its title, legend and scale of colours as one SVG: `{ text, width, height }`. */
function picture(element, title) {
  const figure = element.closest("figure");
  const charts = [...element.querySelectorAll(":scope > svg, :scope > figure > svg")];
  const inner = Math.max(...charts.map((chart) => chart.width.baseVal.value));
  const width = inner + 2 * PADDING;
  const whole = d3.create("svg").attr("width", width)
    .attr("role", "img").attr("aria-label", title).attr("font-family", getComputedStyle(element).fontFamily).attr("font-size", 13);
  const background = whole.append("rect").attr("width", width).attr("fill", ofPage("--surface"));
  const write = (text, x, y, weight) => whole.append("text").attr("x", x).attr("y", y).attr("font-weight", weight)
    .attr("fill", ofPage("--ink")).text(text);
  let top = PADDING;
  for (const line of wrapped(title, inner)) write(line, PADDING, (top += 18) - 5, 600);
  let [left, height] = [PADDING, 0];
  for (const item of figure.querySelectorAll(".legend li")) {
    if (item.querySelector('[aria-pressed="false"]')) continue; // hidden by the reader
    const swatch = item.querySelector("svg");
    const beside = swatch.width.baseVal.value + 8;
    const room = beside + widthOf(item.textContent) + 18;
    if (left > PADDING && left + room > width - PADDING) [left, top] = [PADDING, top + 20];
    place(whole, swatch, left, top + 5);
    write(item.textContent, left + beside, top + 15, 400);
    [left, height] = [left + room, 26];
  }
  top += height;
  const scale = figure.querySelector("[id$=scale] svg");
  for (const chart of [...(scale ? [scale] : []), ...charts]) {
    place(whole, chart, PADDING, top);
    top += chart.getBoundingClientRect().height;
  }
  height = Math.ceil(top + PADDING);
  whole.attr("height", height).attr("viewBox", `0 0 ${width} ${height}`);
  background.attr("height", height);
  return { text: new XMLSerializer().serializeToString(whole.node()), width, height };
}

/** A variable of the page's style as it is now. */
function ofPage(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** Put a copy of an svg element into another one; its styles are those that it has on the page now. */
function place(whole, svg, x, y) {
  const copy = svg.cloneNode(true);
  const both = [[svg, copy], ...d3.zip([...svg.querySelectorAll("*")], [...copy.querySelectorAll("*")])];
  for (const [original, still] of both) settle(original, still);
  for (const pointed of copy.querySelectorAll(POINTED)) pointed.remove();
  for (const hidden of [copy, ...copy.querySelectorAll("[aria-hidden]")]) hidden.removeAttribute("aria-hidden");
  const style = getComputedStyle(svg);
  for (const name of INHERITED) copy.style.setProperty(name, style.getPropertyValue(name));
  d3.select(copy).attr("x", x).attr("y", y).attr("width", parseFloat(style.width)).attr("height", parseFloat(style.height));
  whole.append(() => copy);
}

/** Replace what only the page knows: its variables, and what its style says of a class. */
function settle(original, still) {
  const style = getComputedStyle(original);
  for (const { name, value } of [...still.attributes])
    if (name !== "style" && value.includes("var(")) still.setAttribute(name, style.getPropertyValue(name));
  if (original.classList.contains("chosen"))
    for (const name of ["fill", "stroke", "stroke-width"]) still.setAttribute(name, style.getPropertyValue(name));
}

/** A drawing as the bytes of a PNG file. */
async function asPng({ text, width, height }) {
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`; // the page's policy allows data
  await image.decode();
  const canvas = Object.assign(document.createElement("canvas"), { width: SHARPNESS * width, height: SHARPNESS * height });
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise((done) => canvas.toBlob(done, "image/png"));
}

const measure = document.createElement("canvas").getContext("2d");

/** Pixels of a text. */
function widthOf(text) {
  measure.font = `600 13px ${getComputedStyle(document.body).fontFamily}`;
  return measure.measureText(text).width;
}

/** A text in lines of at most so many pixels; a word that is longer stands alone. */
function wrapped(text, width) {
  const lines = [];
  for (const word of text.split(/\s+/)) {
    const longer = lines.length ? `${lines[lines.length - 1]} ${word}` : word;
    if (lines.length && widthOf(longer) <= width) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
}
