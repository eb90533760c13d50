// The comparison: a layer, a subset, a pair and a checkpoint are chosen; sides, ratios and tables follow.
// A side is a configuration, whose runs are seeds of it, or a run of none.

const cubes = Object.fromEntries(Object.entries(data).filter(([, value]) => value?.base64).map(([name, value]) => [name, new Cube(value)]));
const FEW = 6; // sides up to which each has its band
const NETWORK = 0; // the row of the whole network
const WIDEST = Math.log(1e9) * 0.999; // half of a log ratio's interval that the page does not have in full
const layers = data.rows.slice(1);
const { sides, pairs } = data;
const { values: places, names: placeNames } = data.along;
const compared = `m-coherence of ${data.size.toLocaleString("en-US")} examples`; // whose ratio is drawn and tested
const hidden = new Set(); // sides

const layer = typedChoice("layer", data.rows.map((name) => [name, ""]), draw);
const subset = control("subset", draw);
const size = control("size", draw);
const pair = pairs.length ? control("pair", draw) : { get: () => -1 };
const checkpoint = control("checkpoint", draw);
const along = control("along-scale", draw); // automatic, linear, logarithmic
const coherence = control("coherence-scale", draw); // logarithmic, linear
subset.set(Math.max(0, data.subsets.indexOf("all")));
checkpoint.set(firstSignificant());
const layerPins = pairs.length ? pins({ kind: "layer", names: data.rows, now: layer.get, changed: draw }) : null; // their ratios
const checkpointPins = pins({ kind: "checkpoint", names: placeNames, now: checkpoint.get, changed: draw });
const zoom = zooming({ places, falling: data.along.falling, names: placeNames, now: checkpoint.get, changed: draw, noun: data.along.falling ? "loss level" : "checkpoint" });

const heat = byId("heat");
let markCell = null;
const charts = new Map(); // of lines, each with its id, as drawLines returns it
let heatDrawn = ""; // the pair, subset and checkpoints that the heat map on the page has
let filled = ""; // those that the table of layers has

for (const id of ["lines", "heat", "ratio", "loss", "accuracy"]) if (byId(id)) keepWords(byId(id));
for (const id of ["lines", "ratio", "loss", "accuracy"]) if (byId(id)) listenToSpans(byId(id), (left, right) => {
  zoom.between(charts.get(id).place(left), charts.get(id).place(right));
  draw();
});
if (heat) listenToArrows(heat, () => [layer.get() - 1, zoom.shown().indexOf(checkpoint.get())], chooseShown);
const rowsOfLayers = layerRows();
keepInAddress({
  layer: namedChoice(layer, data.rows),
  subset: namedChoice(subset, data.subsets),
  size: namedChoice(size, data.sizes.map(({ name }) => name)),
  ...(pairs.length ? { pair: namedChoice(pair, pairs.map(({ name }) => name)) } : {}),
  checkpoint: namedChoice(checkpoint, placeNames),
  ...(layerPins ? { "pinned-layer": layerPins.address } : {}),
  "pinned-checkpoint": checkpointPins.address,
  ...zoom.address,
  x: namedChoice(along, ["automatic", "linear", "logarithmic"]),
  y: namedChoice(coherence, ["logarithmic", "linear"]),
  hidden: { get: () => [...hidden].map((k) => sides[k].label), set: hide },
}, draw);
offerAll();
drawAgain(redraw);

/** Hide the sides of these names; returns the unknown ones. */
function hide(names) {
  hidden.clear();
  sides.forEach((side, k) => names.includes(side.label) && hidden.add(k));
  return names.filter((name) => !sides.some(({ label }) => label === name));
}

function redraw() {
  heatDrawn = "";
  draw();
}

function draw() {
  const at = { row: layer.get(), subset: subset.get(), pair: pair.get(), checkpoint: checkpoint.get() };
  nameSlider(checkpoint, placeNames[at.checkpoint]);
  byId("readout").textContent = readout(at);
  drawPins(...(layerPins ? [layerPins] : []), checkpointPins);
  zoom.draw();
  coherence.element.disabled = sizeShown().size === 0; // alpha may be negative: its axis is linear
  drawSides(at);
  if (pairs.length) {
    drawHeat(at);
    drawRatio(at);
  }
  drawTraining(at, "loss", `loss (${data.loss_unit})`, "Loss");
  drawTraining(at, "accuracy", "accuracy", "Accuracy");
  fillLayers(at);
  fillPlaces(at);
  fillTraining(at);
  writeAddress();
}

// --- what the results say at one place

/** The chosen size: { name, quantity, size }. */
function sizeShown() {
  return data.sizes[size.get()];
}

/** The value of a run as of `n` examples, of "_lower" and "_upper" an end of its 95 % interval; NaN where unknown. */
function runAt(r, row, s, t, n, end = "") {
  return atSize(cubes[`m_coherence${end}`]?.at(r, row, s, t) ?? NaN, data.counts[r][s], n, end === "_lower");
}

/** The value of a side with its 95 % interval at the chosen size, or another; NaN where unknown. */
function sideAt(side, row, s, t, n = sizeShown().size) {
  if (side.group !== null) return overSeeds(side.runs, row, s, t, n);
  const [value, low, high] = ["", "_lower", "_upper"].map((end) => runAt(side.runs[0], row, s, t, n, end));
  return { value, low, high };
}

/** The geometric mean over seeds with its interval, as in statistics/seeds.py, and the number of seeds with a value: none where one is at or below 0; as alpha,
 *  that of the mean at the size of the ratios. */
function overSeeds(runs, row, s, t, n) {
  if (n === 0) {
    const { count, ...of } = overSeeds(runs, row, s, t, data.size);
    return { count, ...Object.fromEntries(Object.entries(of).map(([name, value]) => [name, (value - 1) / (data.size - 1)])) };
  }
  const values = runs.map((r) => runAt(r, row, s, t, n)).filter(Number.isFinite);
  const count = values.length;
  if (!count || values.some((value) => value <= 0)) return { value: NaN, low: NaN, high: NaN, count };
  const logs = values.map(Math.log);
  const mean = d3.mean(logs);
  const spread = d3.variance(logs) || NaN; // equal ones are copies
  const half = Math.sqrt(spread / count) * (data.quantiles[count] ?? NaN);
  const value = Math.exp(mean);
  const most = Math.max(value, n ?? d3.max(runs, (r) => data.counts[r][s]));
  return { value, low: Math.exp(mean - half), high: Math.min(Math.exp(mean + half), most), count };
}

/** The ratio of a pair: its logarithm with its interval, and whether it is significant. */
function ratioAt(p, row, s, t) {
  const { first, second } = pairs[p];
  const [one, other] = [first, second].map((k) => sideAt(sides[k], row, s, t, data.size).value);
  const value = Math.log(other / one);
  const signed = cubes.log_half_width.at(p, row, s, t);
  const half = Math.abs(signed);
  return { value: Number.isFinite(value) ? value : NaN, low: value - half, high: value + half, half, found: signed < 0 };
}

/** A ratio in words: `ratio 2.13 (95 %: 1.80 to 2.52), significant`. */
function ratioWords({ value, low, high, half, found }) {
  if (!Number.isFinite(value)) return "no ratio: not in both, or too close to 0";
  if (Number.isNaN(half)) return `ratio ${rounded(Math.exp(value))}, without an interval, not tested`;
  if (half > WIDEST) return `ratio ${rounded(Math.exp(value))}, not significant: the interval is wider than all that is measured`;
  return `ratio ${withInterval(Math.exp(value), Math.exp(low), Math.exp(high))}, ${found ? "significant" : "not significant"}`;
}

function valueWords(side, row, s, t) {
  const { value, low, high, count } = sideAt(side, row, s, t);
  if (!Number.isFinite(value)) return count ? "no geometric mean: a seed is at or below 0" : "no value";
  const some = count < side.runs.length ? `, seeds with a value: ${count} of ${side.runs.length}` : "";
  return `${withInterval(value, low, high)}${some}`;
}

function readout({ row, subset: s, pair: p, checkpoint: t }) {
  const two = p < 0 ? sides.slice(0, 1) : [sides[pairs[p].second], sides[pairs[p].first]];
  const values = two.map((side) => `${side.label} ${valueWords(side, row, s, t)}`);
  const words = [data.rows[row], data.subsets[s], placeNames[t], ...values];
  return (p < 0 ? words : [...words, ratioWords(ratioAt(p, row, s, t))]).join(" \u00b7 ");
}

function rowName(row) {
  return row === NETWORK ? "the whole network" : data.rows[row];
}

// --- charts

function drawSides(at) {
  const visible = sides.filter((side, k) => !hidden.has(k)).length;
  const chosen = new Set(at.pair < 0 ? [] : [pairs[at.pair].first, pairs[at.pair].second]);
  const ofSides = sides.map((side, k) => ({
    name: side.label,
    ...lookOf(side),
    hidden: hidden.has(k),
    strong: visible <= FEW || chosen.has(k),
    points: placesOfRuns(side.runs).map(([x, t]) => {
      const { value, low, high } = sideAt(side, at.row, at.subset, t);
      const title = [side.label, data.rows[at.row], data.subsets[at.subset], placeNames[t],
                     `${sizeShown().quantity}: ${valueWords(side, at.row, at.subset, t)}`].join("\n");
      return { x, t, y: value, low, high, open: false, title };
    }),
  }));
  const series = [...seeds(at), ...ofSides].filter((one) => !one.hidden);
  const y = sizedAxis(series.flatMap((one) => one.points.flatMap((p) => (one.strong ? [p.y, p.high] : [p.y]))), sizeShown(), coherence.get() === 1);
  const guides = guidesAt(sizeShown(), data.size).filter((guide) => guide.y < y.domain[1]);
  const title = `${capital(sizeShown().quantity)}, ${rowName(at.row)}: ${data.subsets[at.subset]}`;
  byId("lines-title").textContent = title;
  drawLegend(byId("legend"), ofSides, (k) => {
    if (!hidden.delete(k)) hidden.add(k);
    draw();
  });
  drawChart("lines", { label: title, y, series, guides });
}

/** Lines over the part of the training, and on the axis, that are chosen; what is at their pointer is marked in the other charts. */
function drawChart(id, options) {
  const shown = zoom.shown().map((t) => places[t]);
  const axis = { values: shown, label: data.along.label, falling: data.along.falling, scale: [undefined, "linear", "logarithmic"][along.get()] };
  charts.set(id, drawLines(byId(id), {
    ...options, axis, choose: choosePlace, chosen: zoom.shows(checkpoint.get()) ? places[checkpoint.get()] : NaN,
    pins: checkpointPins.list().filter(zoom.shows).map((t) => ({ x: places[t], text: data.along.ticks[t] })),
    pointed: (point) => hover(id, point?.row ?? layer.get(), point?.t),
  }));
}

/** Mark in all charts but one what is at the pointer in that one; no checkpoint: nothing. */
function hover(from, row, t) {
  for (const [id, chart] of charts) if (id !== from) chart.hover(places[t]);
  if (from !== "heat") markCell?.hover(row - 1, zoom.shown().indexOf(t));
}

/** The places shown, with their numbers, at which a run of each of these lists has a checkpoint. Lines pass by the others,
 *  and are broken at those of them without a value. */
function placesOfRuns(...lists) {
  const there = (runs, t) => runs.some((r) => cubes.absent.at(r, t) === 0);
  return zoom.shown().filter((t) => lists.every((runs) => there(runs, t))).map((t) => [places[t], t]);
}

/** The runs of the configurations, thin. */
function seeds(at) {
  return data.runs.flatMap((run, r) => {
    if (sides[run.side].group === null) return [];
    const points = placesOfRuns([r]).map(([x, t]) => {
      const value = runAt(r, at.row, at.subset, t, sizeShown().size);
      const words = Number.isFinite(value) ? rounded(value) : "no value";
      const title = [`${run.name}, of ${sides[run.side].label}`, data.rows[at.row], placeNames[t], `${sizeShown().quantity}: ${words}`].join("\n");
      return { x, t, y: value, low: NaN, high: NaN, open: false, title };
    });
    return [{ name: run.name, ...lookOf(run), dash: [], hidden: hidden.has(run.side), strong: false, points }];
  });
}

/** Loss or accuracy of every run. */
function drawTraining(at, name, label, words) {
  if (!byId(name)) return;
  const series = data.runs.filter((run) => !hidden.has(run.side)).map((run) => {
    const r = data.runs.indexOf(run);
    const points = placesOfRuns([r]).map(([x, t]) => {
      const y = cubes[name].at(r, at.subset, t);
      return { x, t, y, low: NaN, high: NaN, open: false, title: [run.name, data.subsets[at.subset], placeNames[t], `${words.toLowerCase()} ${rounded(y)}`].join("\n") };
    });
    return { name: run.name, ...lookOf(run), strong: sides[run.side].group === null && data.runs.length <= FEW, points };
  });
  const known = series.flatMap((one) => one.points.map((point) => point.y));
  const top = name === "accuracy" ? 1 : (d3.max(known) ?? 1) * 1.05;
  const domain = [Math.min(0, d3.min(known) ?? 0), top || 1];
  const title = `${words} over training: ${data.subsets[at.subset]}`;
  byId(`${name}-title`).textContent = title;
  drawChart(name, {
    label: title, series,
    y: { domain, label, ticks: d3.ticks(...domain, 5), tickFormat: compact, labelArrow: "none" },
  });
}

function drawHeat(at) {
  const name = pairs[at.pair].name;
  byId("heat-title").textContent = `${name}: ${data.subsets[at.subset]}, ${compared}`;
  const shown = zoom.shown();
  const pinned = checkpointPins.list().map((t) => shown.indexOf(t)).filter((column) => column >= 0);
  const wanted = [at.pair, at.subset, shown[0], shown.length, ...pinned].join(" ");
  if (heatDrawn !== wanted) {
    const limit = ratioLimit(at);
    const scale = d3.scaleDiverging([-limit, 0, limit], d3.interpolatePuOr).clamp(true);
    drawScale(byId("scale"), {
      type: "diverging-log", scheme: "PuOr", domain: [Math.exp(-limit), Math.exp(limit)], pivot: 1,
      label: `${shortened(name, 34)}, ratio`, ticks: scaleTicks(limit), tickFormat: ratioTick,
    });
    markCell = drawHeatMap(heat, {
      label: `Ratio of every layer and checkpoint, ${name}, ${data.subsets[at.subset]}`,
      rows: layers,
      columns: shown.map((t) => data.along.ticks[t]),
      axisLabel: data.along.label,
      fill: (row, column) => {
        const { value, found } = ratioAt(at.pair, row + 1, at.subset, shown[column]);
        return found ? scale(value) : null;
      },
      hatched: (row, column) => {
        const { value, found } = ratioAt(at.pair, row + 1, at.subset, shown[column]);
        return Number.isFinite(value) && !found;
      },
      title: (row, column) => [layers[row], data.subsets[at.subset], placeNames[shown[column]],
                               ratioWords(ratioAt(at.pair, row + 1, at.subset, shown[column]))].join("\n"),
      choose: chooseShown, pins: pinned,
      pointed: (row, column) => (row === null ? hover("heat", -1) : hover("heat", row + 1, shown[column])),
    });
    heatDrawn = wanted;
  }
  markCell(at.row - 1, shown.indexOf(at.checkpoint));
}

/** The ratio of the pair over training, of the chosen layer and the pinned ones. */
function drawRatio(at) {
  const name = pairs[at.pair].name;
  const rows = withPinned(at.row, layerPins);
  const series = rows.map((row) => ratioSeries(at, row, rows.length));
  const points = series.flatMap((one) => one.points);
  // The widest intervals leave the chart, or a few of them would press all ratios into one line.
  const reach = Math.max(2, ...points.filter(({ y }) => Number.isFinite(y)).map(({ y }) => Math.max(y, 1 / y) ** 2),
                         d3.quantile(points.flatMap(({ low, high }) => [1 / low, high]).filter(Number.isFinite), 0.8) ?? 1) * 1.1;
  const domain = [1 / reach, reach];
  const title = `Ratio of ${rows.length > 1 ? `${rows.length} layers` : rowName(at.row)} over training`;
  byId("ratio-title").textContent = title;
  byId("of-one").hidden = rows.length > 1;
  byId("of-layers").hidden = rows.length === 1;
  drawLegend(byId("ratio-legend"), rows.length > 1 ? series : []);
  drawChart("ratio", {
    label: `${title}, ${name}`, series,
    y: { type: "log", domain, label: `ratio of ${compared}`, ticks: ratioTicks(Math.log(reach)), tickFormat: ratioTick, labelArrow: "none" },
    guides: [{ y: 1, text: "" }], ofShade: "significant", shade: "var(--focus)",
    shaded: series[0].points.map((point) => ({ x: point.x, on: !point.open })),
  });
}

/** The line of one layer, of `count` that are drawn. */
function ratioSeries(at, row, count) {
  const both = [pairs[at.pair].first, pairs[at.pair].second].map((k) => sides[k].runs);
  const points = placesOfRuns(...both).map(([x, t]) => {
    const one = ratioAt(at.pair, row, at.subset, t);
    const shown = one.half < WIDEST;
    return { x, t, row, y: Math.exp(one.value), low: shown ? Math.exp(one.low) : NaN, high: shown ? Math.exp(one.high) : NaN, open: !one.found,
             title: [pairs[at.pair].name, data.rows[row], placeNames[t], ratioWords(one)].join("\n") };
  });
  const slot = layerPins.slot(row);
  return { name: data.rows[row], ...lookOf(slot < 0 ? data.ink : data.looks[slot]), strong: row === at.row || count <= WITH_BANDS, points };
}

/** The largest log ratio of the pair and subset that is drawn in colour; at least that of 2. */
function ratioLimit(at) {
  let largest = Math.LN2;
  for (let row = 1; row < data.rows.length; row++)
    for (let t = 0; t < places.length; t++) {
      const { value, found } = ratioAt(at.pair, row, at.subset, t);
      if (found) largest = Math.max(largest, Math.abs(value));
    }
  return largest;
}

/** Ratios and their inverses within a limit, a few of them. */
function ratioTicks(limit) {
  const steps = limit < 1.5 ? [1.5, 2, 3, 4] : limit < 3.2 ? [2, 5, 10, 20] : [10, 100, 1000, 1e4, 1e5];
  const inside = steps.filter((step) => Math.log(step) <= limit);
  return [...inside.map((step) => 1 / step).reverse(), 1, ...inside];
}

/** Those of them that have room on the scale of colours. */
function scaleTicks(limit) {
  return apart(ratioTicks(limit), d3.scaleLog().domain([Math.exp(-limit), Math.exp(limit)]).range([0, SCALE]));
}

/** `\u00bd` as `1/2`: a ratio below 1 reads best as the inverse of a whole one. */
function ratioTick(value) {
  return value < 0.999 ? `1/${compact(1 / value)}` : compact(value);
}

function chooseCell(row, t) {
  layer.set(within(row + 1, layer.last()));
  checkpoint.set(within(t, checkpoint.last()));
  draw();
}

/** A cell of the heat map, whose columns may be a part of the checkpoints. */
function chooseShown(row, column) {
  const shown = zoom.shown();
  chooseCell(row, shown[within(column, shown.length - 1)]);
}

/** The checkpoint nearest to a place on the axis of training. */
function choosePlace(x) {
  const near = d3.least(zoom.shown(), (t) => Math.abs(places[t] - x));
  checkpoint.set(near);
  draw();
}

/** Where the first pair first differs as a whole for the chosen subset; else the last place. */
function firstSignificant() {
  if (!pairs.length) return places.length - 1;
  const found = places.findIndex((place, t) => ratioAt(0, NETWORK, subset.get(), t).found);
  return found < 0 ? places.length - 1 : found;
}

function capital(text) {
  return text[0].toUpperCase() + text.slice(1);
}

// --- the numbers of the charts

/** Buttons below each chart that save it, and its numbers as CSV. */
function offerAll() {
  const now = () => ({ row: layer.get(), subset: subset.get(), pair: pair.get() });
  offerFiles(byId("lines"), () => numbersOfSides(now()));
  if (pairs.length) {
    offerFiles(heat, () => numbersOfRatios(now(), d3.range(1, data.rows.length)));
    offerFiles(byId("ratio"), () => numbersOfRatios(now(), withPinned(layer.get(), layerPins)));
  }
  for (const name of ["loss", "accuracy"]) {
    const element = byId(name);
    const unit = name === "loss" ? `loss (${data.loss_unit})` : name;
    if (element) offerFiles(element, () => numbersOfRuns(now(), name, unit));
  }
}

function numbersOfSides({ row, subset: s }) {
  const head = ["layer", "subset", placeHead(), "run or configuration", sizeShown().quantity, "95 % lower", "95 % upper"];
  const lines = sides.flatMap((side) => zoom.shown().map((t) => {
    const { value, low, high } = sideAt(side, row, s, t);
    return [data.rows[row], data.subsets[s], places[t], side.label, value, low, high];
  }));
  return [head, ...lines];
}

function numbersOfRatios({ subset: s, pair: p }, rows) {
  const head = ["layer", "subset", placeHead(), "pair", `ratio of ${compared}`, "95 % lower", "95 % upper", "significant"];
  const lines = rows.flatMap((row) => zoom.shown().map((t) => {
    const { value, low, high, found } = ratioAt(p, row, s, t);
    return [data.rows[row], data.subsets[s], places[t], pairs[p].name, Math.exp(value), Math.exp(low), Math.exp(high), found ? 1 : 0];
  }));
  return [head, ...lines];
}

function numbersOfRuns({ subset: s }, name, unit) {
  const lines = data.runs.flatMap((run, r) => zoom.shown().map((t) => [data.subsets[s], places[t], run.name, cubes[name].at(r, s, t)]));
  return [["subset", placeHead(), "run", unit], ...lines];
}

function placeHead() {
  return data.along.label;
}

// --- tables

/** The rows of the table of layers, each with cells for peak and end of every side, and two of ratios. */
function layerRows() {
  const rows = [...byId("layer-table").tBodies[0].rows];
  return rows.map((row, k) => {
    row.querySelector("button").addEventListener("click", () => {
      layer.set(k);
      draw();
    });
    const cells = d3.range(2 * sides.length + (pairs.length ? 2 : 0)).map(() => {
      const cell = row.insertCell();
      cell.className = "n";
      return cell;
    });
    return cells;
  });
}

function fillLayers(at) {
  const wanted = `${at.subset} ${at.pair} ${size.get()}`;
  byId("layer-table-title").textContent = `Layers: ${data.subsets[at.subset]}, ${sizeShown().quantity}`;
  if (pairs.length) {
    byId("layer-table-pair").textContent = `${pairs[at.pair].name}${ofRatios()}`;
    byId("layer-table-now").textContent = `ratio at ${placeNames[at.checkpoint]}`;
  }
  rowsOfLayers.forEach((cells, row) => {
    if (filled !== wanted) {
      sides.forEach((side, k) => {
        const values = places.map((place, t) => sideAt(side, row, at.subset, t).value);
        const highest = d3.maxIndex(values);
        const last = values.findLastIndex(Number.isFinite);
        fillCell(cells[2 * k], values[highest], highest < 0 ? "" : `${rounded(values[highest])} at ${data.along.ticks[highest]}`);
        fillCell(cells[2 * k + 1], values[last], rounded(values[last]));
      });
      if (pairs.length) {
        const found = places.map((place, t) => ratioAt(at.pair, row, at.subset, t));
        const largest = d3.greatestIndex(found, (a, b) => d3.ascending(a.found ? Math.abs(a.value) : -1, b.found ? Math.abs(b.value) : -1));
        const one = found[largest];
        const text = one?.found ? `${rounded(Math.exp(one.value))} at ${data.along.ticks[largest]}` : NOTHING;
        fillCell(cells.at(-1), one?.found ? Math.exp(one.value) : NaN, text);
      }
    }
    if (pairs.length) {
      const one = ratioAt(at.pair, row, at.subset, at.checkpoint);
      fillCell(cells.at(-2), Math.exp(one.value), `${rounded(Math.exp(one.value))}${one.found ? " *" : ""}`);
    }
  });
  filled = wanted;
}

/** The size of the ratios in a table of values at another one. */
function ofRatios() {
  return sizeShown().size === data.size ? "" : `, ratio at m = ${data.size.toLocaleString("en-US")}`;
}

/** A number in a cell: the value that it sorts by, and what stands there. */
function fillCell(cell, value, text) {
  cell.dataset.value = Number.isFinite(value) ? String(value) : "";
  cell.textContent = Number.isFinite(value) ? text : NOTHING;
}

/** The chosen row over training as a table: every side, and the ratio. */
function fillPlaces(at) {
  byId("places-title").textContent = `${at.row === NETWORK ? "The whole network" : data.rows[at.row]} by checkpoint: ${data.subsets[at.subset]}, ${sizeShown().quantity}`;
  const heads = ["", ...sides.map((side) => side.label), ...(pairs.length ? [`${pairs[at.pair].name}${ofRatios()}`] : [])];
  const lines = places.map((place, t) => {
    const values = sides.map((side) => valueWords(side, at.row, at.subset, t).replace("no value", NOTHING));
    const ratio = pairs.length ? [ratioAt(at.pair, at.row, at.subset, t)] : [];
    const words = ratio.map((one) => {
      if (!Number.isFinite(one.value)) return NOTHING;
      return `${one.half < WIDEST ? withInterval(...[one.value, one.low, one.high].map(Math.exp)) : rounded(Math.exp(one.value))}${one.found ? " *" : ""}`;
    });
    return [placeNames[t], ...values, ...words];
  });
  fillTable("places", heads, lines);
}

/** Loss and accuracy of the runs, each over its own probes of the subset, where they are known. */
function fillTraining(at) {
  const known = ["loss", "accuracy"].filter((name) => cubes[name]);
  if (!known.length) return;
  byId("of-training-title").textContent = `${capital(known.join(" and "))} of the runs by checkpoint: ${data.subsets[at.subset]}`;
  const heads = ["", ...known.flatMap((name) => data.runs.map((run) => `${name}, ${run.name}`))];
  const lines = places.map((place, t) => [placeNames[t], ...known.flatMap((name) => data.runs.map((run, r) => rounded(cubes[name].at(r, at.subset, t))))]);
  fillTable("of-training", heads, lines);
}

function fillTable(id, heads, lines) {
  const table = byId(id);
  const head = table.tHead ?? table.createTHead();
  const body = table.tBodies[0] ?? table.createTBody();
  head.replaceChildren(rowOf(heads, "col"));
  body.replaceChildren(...lines.map((line) => rowOf(line, "row")));
}

/** A row of a table; of a head all cells are heads, of others the first one. */
function rowOf(texts, scope) {
  const row = document.createElement("tr");
  texts.forEach((text, k) => {
    const isHead = text !== "" && (scope === "col" || k === 0);
    const cell = document.createElement(isHead ? "th" : "td");
    if (isHead) cell.scope = scope;
    if (k > 0) cell.className = "n";
    cell.textContent = text;
    row.append(cell);
  });
  return row;
}
