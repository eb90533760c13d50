// The report: layers, a subset and checkpoints are chosen, and the views in detail follow.

/** A cube whose values follow the chosen size; `chosen()` is that size, `end` says it holds lower ends of intervals. */
class SizedCube {
  constructor(cube, subsets, chosen, end = false) {
    Object.assign(this, { cube, subsets, chosen, end });
  }

  at(row, s, t) {
    return atSize(this.cube.at(row, s, t), this.subsets[s].m, this.chosen(), this.end);
  }
}

const size = control("size", draw);
const sized = ["m_coherence", "lower", "upper", "null_lower", "null_upper"];
const cubes = Object.fromEntries([
  ...sized.map((name) => [name, new SizedCube(new Cube(data[name]), data.subsets, () => sizeShown().size, name === "lower")]),
  ...["chance", "cancels", "flags"].map((name) => [name, new Cube(data[name])]),
]);
const NETWORK = 0; // the row of the whole network
const layers = data.rows.slice(1).map(([name]) => name);
const places = data.training.values.map((value) => value ?? NaN);

const layer = typedChoice("layer", data.rows, draw);
const subset = control("subset", draw);
const checkpoint = control("checkpoint", draw);
const along = control("along-scale", draw); // automatic, linear, logarithmic
const coherence = control("coherence-scale", draw); // logarithmic, linear
along.set(data.start.along);
subset.set(data.start.subset);
checkpoint.set(data.start.checkpoint);
const layerPins = pins({ kind: "layer", names: data.rows.map(([name]) => name), now: layer.get, changed: draw });
const checkpointPins = pins({ kind: "checkpoint", names: data.training.names, now: checkpoint.get, changed: draw });
const zoom = zooming({ places, falling: data.training.falling, names: data.training.names, now: checkpoint.get, changed: draw });

const heat = byId("heat");
let lines = null; // the drawn ones
let markCell = null;
let markRow = null;
let profileAlone = false; // without the heat map that has the names of its rows
const drawCosines = cosineTable(data);
let heatDrawn = ""; // the subset, checkpoints, colours and width that the heat map on the page has

listenToArrows(heat, () => [layer.get() - 1, zoom.shown().indexOf(checkpoint.get())], chooseShown);
listenToSpans(byId("lines"), (left, right) => {
  zoom.between(lines.place(left), lines.place(right));
  draw();
});
for (const id of ["lines", "heat", "profile"]) keepWords(byId(id));
nameRows();
keepInAddress({
  layer: namedChoice(layer, data.rows.map(([name]) => name)),
  subset: namedChoice(subset, data.subsets.map(({ name }) => name)),
  size: namedChoice(size, data.sizes.map(({ name }) => name)),
  checkpoint: namedChoice(checkpoint, data.training.names),
  "pinned-layer": layerPins.address,
  "pinned-checkpoint": checkpointPins.address,
  ...zoom.address,
  x: namedChoice(along, ["automatic", "linear", "logarithmic"]),
  y: namedChoice(coherence, ["logarithmic", "linear"]),
}, draw);
const inFiles = { lines: d3.range(data.subsets.length), all: d3.range(1, data.rows.length) };
offerFiles(byId("lines"), () => numbers(shownRows(), layerPins.list().length ? [subset.get()] : inFiles.lines, zoom.shown()));
offerFiles(heat, () => numbers(inFiles.all, [subset.get()], zoom.shown()));
offerFiles(byId("profile"), () => numbers(inFiles.all, [subset.get()], shownCheckpoints()), (alone) => {
  profileAlone = alone;
  drawLayers(chosen());
});
drawAgain(redraw);

function redraw() {
  heatDrawn = "";
  draw();
}

function chosen() {
  return { row: layer.get(), subset: subset.get(), checkpoint: checkpoint.get() };
}

function shownRows() {
  return withPinned(layer.get(), layerPins);
}

function shownCheckpoints() {
  return withPinned(checkpoint.get(), checkpointPins);
}

function draw() {
  const at = chosen();
  nameSlider(checkpoint, data.training.names[at.checkpoint]);
  byId("readout").textContent = words(at.row, at.subset, at.checkpoint);
  drawPins(layerPins, checkpointPins);
  zoom.draw();
  coherence.element.disabled = sizeShown().size === 0; // alpha may be negative: its axis is linear
  drawTraining(at);
  drawHeat(at);
  drawLayers(at);
  drawCosines(at.checkpoint);
  writeAddress();
}

/** The chosen size: { name, quantity, size }. */
function sizeShown() {
  return data.sizes[size.get()];
}

/** Mark in all charts but one what is at the pointer in that one; a row of -1 and no checkpoint: nothing. */
function hover(from, row, t) {
  if (from !== "lines") lines.hover(places[t]);
  if (from !== "heat") markCell.hover(row - 1, zoom.shown().indexOf(t));
  if (from !== "profile") markRow(row - 1);
}

/** The ends of a value's 95 % interval. */
function interval(row, s, t) {
  return [cubes.lower.at(row, s, t), cubes.upper.at(row, s, t)];
}

/** The value at one place in words; `lines` gives them one below the other. */
function words(row, s, t, separator = " \u00b7 ") {
  const value = cubes.m_coherence.at(row, s, t);
  const place = [data.rows[row][0], data.subsets[s].name, data.training.names[t]].join(separator);
  if (!Number.isFinite(value)) return `${place}${separator}no value${data.training.skipped[t] ? ": skipped" : ""}`;
  const alpha = sizeShown().size === 0;
  const parts = [`${alpha ? "unbiased alpha" : "m-coherence"} ${withInterval(value, ...interval(row, s, t))}`];
  if (!alpha) parts[0] += ` ${sizeShown().name}`;
  const [low, high] = [cubes.null_lower.at(row, s, t), cubes.null_upper.at(row, s, t)];
  if (Number.isFinite(high)) parts.push(`by chance ${rounded(low)} to ${rounded(high)}`);
  if (cubes.chance.at(row, s, t)) parts.push("cannot be told from chance");
  if (cubes.cancels.at(row, s, t)) parts.push("gradients cancel: less than by chance");
  const marks = marksAt(row, s, t);
  if (marks.length) parts.push(`warnings: ${marks.join(" ")}`);
  return [place, ...parts].join(separator);
}

/** The numbers of some rows, subsets and checkpoints, as a table for a file. */
function numbers(rows, subsets, checkpoints) {
  const [name, unit] = sizeShown().size === 0 ? ["alpha_unbiased", "1"] : ["m_coherence", "examples"];
  const head = ["checkpoint", data.training.label, "layer", "layer_type", "subset", "m (examples)", "shown", `${name} (${unit})`,
                `${name}_lower (95 %)`, `${name}_upper (95 %)`, "null_lower (95 %)", "null_upper (95 %)",
                "cannot_be_told_from_chance", "gradients_cancel", "warnings"];
  const cells = d3.cross(rows, subsets).flatMap(([row, s]) => checkpoints.map((t) => [row, s, t]));
  return [head, ...cells.map(([row, s, t]) => [
    data.training.names[t], places[t], ...data.rows[row], data.subsets[s].name, data.subsets[s].m, sizeShown().name,
    cubes.m_coherence.at(row, s, t), ...interval(row, s, t), cubes.null_lower.at(row, s, t), cubes.null_upper.at(row, s, t),
    cubes.chance.at(row, s, t), cubes.cancels.at(row, s, t), marksAt(row, s, t).join(" "),
  ])];
}

/** The marks of the warnings on a value. */
function marksAt(row, s, t) {
  return data.kinds.filter(([mask]) => cubes.flags.at(row, s, t) & mask).map(([, mark]) => mark);
}

/** The lines of the chart: with pins the layers in the chosen subset, else the subsets in the chosen layer. */
function trainingSeries(at) {
  const pinned = layerPins.list().length > 0;
  const shown = pinned ? shownRows().map((row) => [row, at.subset]) : data.subsets.map((one, s) => [at.row, s]);
  return shown.map(([row, s]) => {
    const front = row === at.row && s === at.subset;
    const slot = layerPins.slot(row);
    const look = !pinned ? data.subsets[s] : slot < 0 ? data.ink : data.looks[slot];
    return {
      name: pinned ? data.rows[row][0] : data.subsets[s].name,
      ...lookOf(look),
      strong: front || (pinned && shown.length <= WITH_BANDS),
      points: places.map((x, t) => {
        const [low, high] = interval(row, s, t);
        return { x, y: cubes.m_coherence.at(row, s, t), low, high, open: cubes.chance.at(row, s, t) === 1, row, t,
                 title: later(() => words(row, s, t, "\n")) };
      }).filter(({ t }) => zoom.shows(t)),
    };
  });
}

function drawTraining(at) {
  const series = trainingSeries(at);
  const drawn = series.flatMap(({ strong, points }) => points.flatMap(({ y, high }) => (strong ? [y, high] : [y])));
  const y = sizedAxis(drawn, sizeShown(), coherence.get() === 1);
  const guides = guidesAt(sizeShown(), data.subsets[at.subset].m).filter((guide) => guide.y < y.domain[1]);
  const shown = zoom.shown();
  const chance = shown
    .map((t) => ({ x: places[t], low: cubes.null_lower.at(at.row, at.subset, t), high: cubes.null_upper.at(at.row, at.subset, t) }))
    .filter((point) => Number.isFinite(point.x));
  if (!data.training.falling) chance.sort((a, b) => a.x - b.x);
  const name = at.row === NETWORK ? "the whole network" : data.rows[at.row][0];
  const title = layerPins.list().length
    ? `M-coherence of ${series.length} layer${series.length === 1 ? "" : "s"} over training: ${data.subsets[at.subset].name}, ${sizeShown().name}`
    : `M-coherence of ${name} over training, ${sizeShown().name}`;
  byId("lines-title").textContent = title;
  byId("of-subsets").hidden = layerPins.list().length > 0;
  byId("of-layers").hidden = !byId("of-subsets").hidden;
  drawLegend(byId("legend"), series);
  lines = drawLines(byId("lines"), {
    label: title, y, series, guides, chance, chosen: zoom.shows(at.checkpoint) ? places[at.checkpoint] : NaN,
    axis: { ...data.training, values: shown.map((t) => places[t]), scale: [undefined, "linear", "logarithmic"][along.get()] },
    skipped: shown.filter((t) => data.training.skipped[t] && Number.isFinite(places[t])).map((t) => places[t]),
    shaded: shown.filter((t) => Number.isFinite(places[t])).map((t) => ({ x: places[t], on: cubes.cancels.at(at.row, at.subset, t) === 1 })),
    ofShade: "gradients cancel",
    pins: checkpointPins.list().filter(zoom.shows).map((t) => ({ x: places[t], text: data.training.ticks[t] })),
    pointed: (point) => hover("lines", point?.row ?? -1, point?.t),
    choose: (x) => {
      const near = d3.least(shown.filter((t) => Number.isFinite(places[t])), (t) => Math.abs(places[t] - x));
      if (near !== undefined) chooseCell(at.row - 1, near);
    },
  });
}

function drawHeat(at) {
  const shown = zoom.shown();
  const pinned = checkpointPins.list().map((t) => shown.indexOf(t)).filter((column) => column >= 0);
  const wanted = [at.subset, size.get(), shown[0], shown.length, ...pinned].join(" ");
  const subsetName = data.subsets[at.subset].name;
  byId("heat-title").textContent = `Every layer and checkpoint: ${subsetName}, ${sizeShown().name}`;
  if (heatDrawn !== wanted) {
    const limits = colourLimits();
    const scale = d3.scaleSequentialLog(limits, d3.interpolateViridis).clamp(true);
    drawScale(byId("scale"), {
      type: "log", scheme: "viridis", domain: limits, label: sizeShown().quantity, ticks: logTicks(limits), tickFormat: compact,
    });
    markCell = drawHeatMap(heat, {
      label: `M-coherence of every layer and checkpoint, ${subsetName}, ${sizeShown().name}`,
      rows: layers,
      columns: shown.map((t) => (Number.isFinite(places[t]) && !data.training.falling ? compact(places[t]) : data.training.ticks[t])),
      axisLabel: data.training.label,
      fill: (row, column) => {
        const value = cubes.m_coherence.at(row + 1, at.subset, shown[column]);
        return Number.isFinite(value) ? scale(Math.max(value, limits[0])) : null;
      },
      title: (row, column) => words(row + 1, at.subset, shown[column], "\n"),
      hatched: (row, column) => cubes.chance.at(row + 1, at.subset, shown[column]) === 1,
      choose: chooseShown, pins: pinned,
      pointed: (row, column) => (row === null ? hover("heat", -1) : hover("heat", row + 1, shown[column])),
    });
    heatDrawn = wanted;
  }
  markCell(at.row - 1, shown.indexOf(at.checkpoint));
}

function drawLayers(at) {
  const value = (k, t) => cubes.m_coherence.at(k + 1, at.subset, t);
  const rows = layers.map((name, k) => {
    const [low, high] = interval(k + 1, at.subset, at.checkpoint);
    return {
      name, value: value(k, at.checkpoint), low, high,
      nullLow: cubes.null_lower.at(k + 1, at.subset, at.checkpoint),
      nullHigh: cubes.null_upper.at(k + 1, at.subset, at.checkpoint),
      open: cubes.chance.at(k + 1, at.subset, at.checkpoint) === 1,
      title: later(() => words(k + 1, at.subset, at.checkpoint, "\n")),
    };
  });
  const pinned = checkpointPins.list().filter((t) => t !== at.checkpoint);
  const others = pinned.map((t) => ({
    name: data.training.names[t], ...lookOf(data.looks[checkpointPins.slot(t)]),
    values: layers.map((name, k) => value(k, t)), titles: layers.map((name, k) => later(() => words(k + 1, at.subset, t, "\n"))),
  }));
  const front = { name: data.training.names[at.checkpoint], ...lookOf(data.subsets[at.subset]) };
  const element = byId("profile");
  const title = `The layers at ${[front, ...others].map(({ name }) => name).join(", ")}: ${data.subsets[at.subset].name}, ${sizeShown().name}`;
  byId("profile-title").textContent = title;
  drawLegend(byId("profile-legend"), others.length ? [front, ...others] : []);
  const drawn = [...rows.flatMap((row) => [row.value, row.high]), ...others.flatMap(({ values }) => values)];
  markRow = drawProfile(element, {
    label: title, rows, others, ...front, chosen: at.row - 1,
    x: sizedAxis(drawn, sizeShown(), coherence.get() === 1), guide: guidesAt(sizeShown(), 0)[0].y,
    aligned: !profileAlone && element.getBoundingClientRect().top === heat.getBoundingClientRect().top,
    choose: (row) => chooseCell(row, checkpoint.get()),
    pointed: (row) => (row === null ? hover("profile", -1) : hover("profile", row + 1, at.checkpoint)),
  });
}

/** A cell of the heat map, whose columns may be a part of the checkpoints. */
function chooseShown(row, column) {
  const shown = zoom.shown();
  chooseCell(row, shown[within(column, shown.length - 1)]);
}

function chooseCell(row, t) {
  layer.set(within(row + 1, layer.last()));
  checkpoint.set(within(t, checkpoint.last()));
  draw();
}

/** The names in the table choose their layer. */
function nameRows() {
  const rows = document.querySelectorAll("#layers tbody th");
  rows.forEach((head, row) => {
    const button = document.createElement("button");
    button.type = "button";
    button.title = "Show in detail";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      chooseCell(row, checkpoint.get());
      byId("details-title").scrollIntoView({ block: "start" });
      layer.element.focus({ preventScroll: true });
    });
  });
}

/** One scale of colours for all subsets: from at most 1 to at least 10, as in the figures; three decades of alpha. */
function colourLimits() {
  const values = [];
  for (let row = 1; row < data.rows.length; row++)
    for (let s = 0; s < data.subsets.length; s++)
      for (let t = 0; t < places.length; t++) values.push(cubes.m_coherence.at(row, s, t));
  const known = values.filter(Number.isFinite);
  if (sizeShown().size === 0) {
    const high = d3.max([1e-3, d3.max(known) ?? 0]);
    return [high / 1e3, high];
  }
  return [Math.max(d3.min([1, d3.min(known) ?? 1]), 0.1), d3.max([10, d3.max(known) ?? 10])];
}
