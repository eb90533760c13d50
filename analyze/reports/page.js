// The report: a layer, a subset and a checkpoint are chosen, and the views in detail follow.

const size = control("size", draw);
const sized = ["m_coherence", "lower", "upper", "null_lower", "null_upper"];
const cubes = Object.fromEntries([
  ...sized.map((name) => [name, new SizedCube(new Cube(data[name]), data.subsets, () => sizeShown().size, name === "lower")]),
  ...["chance", "flags"].map((name) => [name, new Cube(data[name])]),
]);
const NETWORK = 0; // the row of the whole network
const layers = data.rows.slice(1).map(([name]) => name);
const places = data.training.values.map((value) => value ?? NaN);

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
  size: namedChoice(size, data.sizes.map(({ name }) => name)),
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

/** The chosen size: { name, quantity, size }. */
function sizeShown() {
  return data.sizes[size.get()];
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
  const marks = marksAt(row, s, t);
  if (marks.length) parts.push(`warnings: ${marks.join(" ")}`);
  return [place, ...parts].join(separator);
}

/** The numbers of some rows, subsets and checkpoints, as a table for a file. */
function numbers(rows, subsets, checkpoints) {
  const head = ["checkpoint", data.training.label, "layer", "layer_type", "subset", "m (examples)", "shown", "m_coherence (examples)",
                "m_coherence_lower (95 %)", "m_coherence_upper (95 %)", "null_lower (95 %)", "null_upper (95 %)",
                "cannot_be_told_from_chance", "warnings"];
  const cells = d3.cross(rows, subsets).flatMap(([row, s]) => checkpoints.map((t) => [row, s, t]));
  return [head, ...cells.map(([row, s, t]) => [
    data.training.names[t], places[t], ...data.rows[row], data.subsets[s].name, data.subsets[s].m, sizeShown().name,
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
  const y = sizedAxis([...shown, ...front.points.map((point) => point.high)], sizeShown());
  const guides = guidesAt(sizeShown(), data.subsets[at.subset].m).filter((guide) => guide.y < y.domain[1]);
  const chance = places
    .map((x, t) => ({ x, low: cubes.null_lower.at(at.row, at.subset, t), high: cubes.null_upper.at(at.row, at.subset, t) }))
    .filter((point) => Number.isFinite(point.x));
  if (!data.training.falling) chance.sort((a, b) => a.x - b.x);
  const title = `M-coherence of ${at.row === NETWORK ? "the whole network" : data.rows[at.row][0]} over training, ${sizeShown().name}`;
  document.getElementById("lines-title").textContent = title;
  drawLegend(document.getElementById("legend"), series);
  drawLines(document.getElementById("lines"), {
    label: title, axis: { ...data.training, values: places }, y, series, guides, chance, chosen: places[at.checkpoint],
    skipped: places.filter((x, t) => data.training.skipped[t] && Number.isFinite(x)),
  });
}

function drawHeat(at) {
  const wanted = `${at.subset} ${size.get()}`;
  const subsetName = data.subsets[at.subset].name;
  document.getElementById("heat-title").textContent = `Every layer and checkpoint: ${subsetName}, ${sizeShown().name}`;
  if (heatDrawn !== wanted) {
    const limits = colourLimits();
    const scale = d3.scaleSequentialLog(limits, d3.interpolateViridis).clamp(true);
    drawScale(document.getElementById("scale"), {
      type: "log", scheme: "viridis", domain: limits, label: sizeShown().quantity, ticks: logTicks(limits), tickFormat: compact,
    });
    markCell = drawHeatMap(heat, {
      label: `M-coherence of every layer and checkpoint, ${subsetName}, ${sizeShown().name}`,
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
  const title = `The layers at ${data.training.names[at.checkpoint]}: ${data.subsets[at.subset].name}, ${sizeShown().name}`;
  document.getElementById("profile-title").textContent = title;
  drawProfile(element, {
    label: title, rows, x: sizedAxis(rows.flatMap((row) => [row.value, row.high]), sizeShown()),
    guide: guidesAt(sizeShown(), 0)[0].y,
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
