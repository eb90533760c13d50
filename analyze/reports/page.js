// The report: a layer, a subset and a checkpoint are chosen, and the views in detail follow.

const cubes = Object.fromEntries(
  ["m_coherence", "half_width", "null_lower", "null_upper", "chance", "flags"].map((name) => [name, new Cube(data[name])]),
);
const NETWORK = 0; // the row of the whole network
const layers = data.rows.slice(1).map(([name]) => name);
const places = data.training.values.map((value) => value ?? NaN);
const limits = colourLimits();

const layer = control("layer", draw);
const subset = control("subset", draw);
const checkpoint = control("checkpoint", draw);
subset.set(data.start.subset);
checkpoint.set(data.start.checkpoint);

const heat = document.getElementById("heat");
let markCell = null;
let profileAlone = false; // without the heat map that has the names of its rows
let heatDrawn = ""; // the subset, colours and width that the heat map on the page has

listenToArrows(heat, () => [layer.get() - 1, checkpoint.get()], chooseCell);
nameRows();
keepInAddress({
  layer: namedChoice(layer, data.rows.map(([name]) => name)),
  subset: namedChoice(subset, data.subsets.map(({ name }) => name)),
  checkpoint: namedChoice(checkpoint, data.training.names),
}, draw);
offerFiles(document.getElementById("lines"), () => numbers([layer.get()], d3.range(data.subsets.length), d3.range(places.length)));
offerFiles(heat, () => numbers(d3.range(1, data.rows.length), [subset.get()], d3.range(places.length)));
offerFiles(document.getElementById("profile"), () => numbers(d3.range(1, data.rows.length), [subset.get()], [checkpoint.get()]), (alone) => {
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

function draw() {
  const at = chosen();
  nameSlider(checkpoint, data.training.names[at.checkpoint]);
  document.getElementById("readout").textContent = words(at.row, at.subset, at.checkpoint);
  drawTraining(at);
  drawHeat(at);
  drawLayers(at);
  writeAddress();
}

/** The ends of a value's 95 % interval. */
function interval(row, s, t) {
  const [value, half] = [cubes.m_coherence.at(row, s, t), cubes.half_width.at(row, s, t)];
  return [value - half, value + half];
}

/** The value at one place in words; `lines` gives them one below the other. */
function words(row, s, t, separator = " \u00b7 ") {
  const value = cubes.m_coherence.at(row, s, t);
  const place = [data.rows[row][0], data.subsets[s].name, data.training.names[t]].join(separator);
  if (!Number.isFinite(value)) return `${place}${separator}no value${data.training.skipped[t] ? ": skipped" : ""}`;
  const parts = [`m-coherence ${withInterval(value, ...interval(row, s, t))}`];
  const [low, high] = [cubes.null_lower.at(row, s, t), cubes.null_upper.at(row, s, t)];
  if (Number.isFinite(high)) parts.push(`by chance ${rounded(low)} to ${rounded(high)}`);
  if (cubes.chance.at(row, s, t)) parts.push("cannot be told from chance");
  const marks = marksAt(row, s, t);
  if (marks.length) parts.push(`warnings: ${marks.join(" ")}`);
  return [place, ...parts].join(separator);
}

/** The numbers of some rows, subsets and checkpoints, as a table for a file. */
function numbers(rows, subsets, checkpoints) {
  const head = ["checkpoint", data.training.label, "layer", "layer_type", "subset", "m (examples)", "m_coherence (examples)",
                "m_coherence_lower (95 %)", "m_coherence_upper (95 %)", "null_lower (95 %)", "null_upper (95 %)",
                "cannot_be_told_from_chance", "warnings"];
  const cells = d3.cross(rows, subsets).flatMap(([row, s]) => checkpoints.map((t) => [row, s, t]));
  return [head, ...cells.map(([row, s, t]) => [
    data.training.names[t], places[t], ...data.rows[row], data.subsets[s].name, data.subsets[s].m,
    cubes.m_coherence.at(row, s, t), ...interval(row, s, t), cubes.null_lower.at(row, s, t), cubes.null_upper.at(row, s, t),
    cubes.chance.at(row, s, t), marksAt(row, s, t).join(" "),
  ])];
}

/** The marks of the warnings on a value. */
function marksAt(row, s, t) {
  return data.kinds.filter(([mask]) => cubes.flags.at(row, s, t) & mask).map(([, mark]) => mark);
}

function drawTraining(at) {
  const series = data.subsets.map((one, s) => ({
    name: one.name,
    ...lookOf(one),
    strong: s === at.subset,
    points: places.map((x, t) => ({
      x,
      y: cubes.m_coherence.at(at.row, s, t),
      low: interval(at.row, s, t)[0],
      high: interval(at.row, s, t)[1],
      open: cubes.chance.at(at.row, s, t) === 1,
      title: words(at.row, s, t, "\n"),
    })),
  }));
  const front = series[at.subset];
  const shown = series.flatMap((one) => one.points.map((point) => point.y));
  const y = coherenceAxis([...shown, ...front.points.map((point) => point.high)]);
  const m = data.subsets[at.subset].m;
  const guides = [{ y: 1, text: "1: orthogonal" }];
  if (m < y.domain[1]) guides.push({ y: m, text: `m = ${m.toLocaleString("en-US")}: identical` });
  const chance = places
    .map((x, t) => ({ x, low: cubes.null_lower.at(at.row, at.subset, t), high: cubes.null_upper.at(at.row, at.subset, t) }))
    .filter((point) => Number.isFinite(point.x));
  if (!data.training.falling) chance.sort((a, b) => a.x - b.x);
  const title = `M-coherence of ${at.row === NETWORK ? "the whole network" : data.rows[at.row][0]} over training`;
  document.getElementById("lines-title").textContent = title;
  drawLegend(document.getElementById("legend"), series);
  drawLines(document.getElementById("lines"), {
    label: title, axis: { ...data.training, values: places }, y, series, guides, chance, chosen: places[at.checkpoint],
    skipped: places.filter((x, t) => data.training.skipped[t] && Number.isFinite(x)),
  });
}

function drawHeat(at) {
  const wanted = `${at.subset}`;
  const subsetName = data.subsets[at.subset].name;
  document.getElementById("heat-title").textContent = `Every layer and checkpoint: ${subsetName}`;
  if (heatDrawn !== wanted) {
    const scale = d3.scaleSequentialLog(limits, d3.interpolateViridis).clamp(true);
    drawScale(document.getElementById("scale"), {
      type: "log", scheme: "viridis", domain: limits, label: "m-coherence (examples)", ticks: logTicks(limits), tickFormat: compact,
    });
    markCell = drawHeatMap(heat, {
      label: `M-coherence of every layer and checkpoint, ${subsetName}`,
      rows: layers,
      columns: data.training.ticks.map((tick, t) => (Number.isFinite(places[t]) && !data.training.falling ? compact(places[t]) : tick)),
      axisLabel: data.training.label,
      fill: (row, t) => {
        const value = cubes.m_coherence.at(row + 1, at.subset, t);
        return Number.isFinite(value) ? scale(Math.max(value, limits[0])) : null;
      },
      title: (row, t) => words(row + 1, at.subset, t, "\n"),
      hatched: (row, t) => cubes.chance.at(row + 1, at.subset, t) === 1,
      choose: chooseCell,
    });
    heatDrawn = wanted;
  }
  markCell(at.row - 1, at.checkpoint);
}

function drawLayers(at) {
  const rows = layers.map((name, k) => ({
    name,
    value: cubes.m_coherence.at(k + 1, at.subset, at.checkpoint),
    low: interval(k + 1, at.subset, at.checkpoint)[0],
    high: interval(k + 1, at.subset, at.checkpoint)[1],
    nullLow: cubes.null_lower.at(k + 1, at.subset, at.checkpoint),
    nullHigh: cubes.null_upper.at(k + 1, at.subset, at.checkpoint),
    open: cubes.chance.at(k + 1, at.subset, at.checkpoint) === 1,
    title: words(k + 1, at.subset, at.checkpoint, "\n"),
  }));
  const element = document.getElementById("profile");
  const title = `The layers at ${data.training.names[at.checkpoint]}: ${data.subsets[at.subset].name}`;
  document.getElementById("profile-title").textContent = title;
  drawProfile(element, {
    label: title, rows, x: coherenceAxis(rows.flatMap((row) => [row.value, row.high])),
    colour: pageColour(data.subsets[at.subset].colour), chosen: at.row - 1,
    aligned: !profileAlone && element.getBoundingClientRect().top === heat.getBoundingClientRect().top,
    choose: (row) => chooseCell(row, checkpoint.get()),
  });
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
      document.getElementById("details-title").scrollIntoView({ block: "start" });
      layer.element.focus({ preventScroll: true });
    });
  });
}

/** One scale of colours for all subsets: from at most 1 to at least 10, as in the figures. */
function colourLimits() {
  let [low, high] = [1, 10];
  const perRow = data.subsets.length * places.length;
  cubes.m_coherence.values.forEach((value, k) => {
    if (k < perRow || !Number.isFinite(value)) return; // not the network
    low = Math.min(low, value);
    high = Math.max(high, value);
  });
  return [Math.max(low, 0.1), high];
}
