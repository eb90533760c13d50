// The comparison: a layer, a subset, a pair and a checkpoint are chosen; runs and ratios are drawn.

const cubes = Object.fromEntries(
  ["m_coherence", "half_width", "log_ratio", "log_half_width", "significant"].map((name) => [name, new Cube(data[name])]),
);
const FEW = 6; // runs up to which each has its band
const NETWORK = 0; // the row of the whole network
const layers = data.rows.slice(1);
const places = data.along.values;
const placeNames = data.along.names;
const axis = { values: places, label: data.along.label, falling: data.along.falling };
const groups = data.groups.map((group) => ({ ...group, mean: new Cube(group.m_coherence), half: new Cube(group.half_width) }));
const hidden = new Set();

const layer = control("layer", draw);
const subset = control("subset", draw);
const pair = control("pair", draw);
const checkpoint = control("checkpoint", draw);
subset.set(Math.max(0, data.subsets.indexOf("all")));
checkpoint.set(firstSignificant());

const heat = document.getElementById("heat");
let markCell = null;
let heatDrawn = ""; // the pair and subset that the heat map on the page has

listenToArrows(heat, () => [layer.get() - 1, checkpoint.get()], chooseCell);
drawAgain(redraw);

function redraw() {
  heatDrawn = "";
  draw();
}

function draw() {
  const at = { row: layer.get(), subset: subset.get(), pair: pair.get(), checkpoint: checkpoint.get() };
  nameSlider(checkpoint, placeNames[at.checkpoint]);
  document.getElementById("readout").textContent = readout(at);
  drawRuns(at);
  drawHeat(at);
  drawRatio(at);
}

/** Where a pair stands at one place: the logarithm of the ratio, its interval and what was found. */
function ratioAt(p, row, s, t) {
  const value = cubes.log_ratio.at(p, row, s, t);
  const half = cubes.log_half_width.at(p, row, s, t);
  return { value, low: value - half, high: value + half, found: cubes.significant.at(p, row, s, t) === 1 };
}

/** A ratio in words: `2.13 (95 %: 1.80 to 2.52)`. */
function ratioWords({ value, low, high, found }) {
  if (!Number.isFinite(value)) return "no ratio: not in both runs, or too close to 0";
  return `ratio ${withInterval(Math.exp(value), Math.exp(low), Math.exp(high))}, ${found ? "significant" : "not significant"}`;
}

function valueWords(run, row, s, t) {
  const value = cubes.m_coherence.at(run, row, s, t);
  const half = cubes.half_width.at(run, row, s, t);
  return Number.isFinite(value) ? withInterval(value, value - half, value + half) : "no value";
}

function readout({ row, subset: s, pair: p, checkpoint: t }) {
  const two = [data.pairs[p].second, data.pairs[p].first];
  const values = two.map((run) => `${data.runs[run].name} ${valueWords(run, row, s, t)}`);
  const place = [data.rows[row], data.subsets[s], placeNames[t]];
  return [...place, ...values, ratioWords(ratioAt(p, row, s, t))].join(" \u00b7 ");
}

function drawRuns(at) {
  const visible = data.runs.map((run, r) => r).filter((r) => !hidden.has(r));
  const inPair = new Set([data.pairs[at.pair].first, data.pairs[at.pair].second]);
  const grouped = new Map(groups.flatMap((group) => group.runs.map((r) => [r, group])));
  const ofRuns = data.runs.map((run, r) => ({
    ...run,
    ...lookOf(grouped.get(r) ?? run),
    hidden: hidden.has(r),
    strong: !grouped.has(r) && (visible.length <= FEW || inPair.has(r)),
    points: places.map((x, t) => {
      const [value, half] = [cubes.m_coherence.at(r, at.row, at.subset, t), cubes.half_width.at(r, at.row, at.subset, t)];
      const title = [run.name, data.rows[at.row], data.subsets[at.subset], placeNames[t],
                     `m-coherence ${valueWords(r, at.row, at.subset, t)}`].join("\n");
      return { x, y: value, low: value - half, high: value + half, open: false, title };
    }),
  }));
  const series = [...ofRuns, ...groups.map((group, k) => groupSeries(group, data.runs.length + k, at))];
  const shown = series.filter((one) => !one.hidden);
  // A run has other places than the others: its line goes on over places where it has no checkpoint.
  for (const one of shown) one.points = one.points.filter((point) => Number.isFinite(point.y));
  const y = coherenceAxis(shown.flatMap((one) => one.points.flatMap((p) => (one.strong ? [p.y, p.high] : [p.y]))));
  const sizes = [...new Set(data.counts.map((counts) => counts[at.subset]))].filter((m) => m > 0);
  const guides = [{ y: 1, text: "1: orthogonal" }];
  for (const m of sizes) if (m < y.domain[1]) guides.push({ y: m, text: `m = ${m.toLocaleString("en-US")}: identical` });
  const title = `M-coherence of ${at.row === NETWORK ? "the whole network" : data.rows[at.row]}: ${data.subsets[at.subset]}`;
  document.getElementById("lines-title").textContent = title;
  drawLegend(document.getElementById("legend"), series, (r) => {
    if (!hidden.delete(r)) hidden.add(r);
    draw();
  });
  drawLines(document.getElementById("lines"), {
    label: title, axis, y, series: shown, guides, chosen: places[at.checkpoint],
  });
}

/** The mean of a group's runs; its button is the `k`-th of the legend. */
function groupSeries(group, k, at) {
  const points = places.map((x, t) => {
    const [value, half] = [group.mean.at(at.row, at.subset, t), group.half.at(at.row, at.subset, t)];
    const words = `m-coherence ${Number.isFinite(value) ? withInterval(value, value - half, value + half) : "no value"}`;
    const title = [group.name, data.rows[at.row], data.subsets[at.subset], placeNames[t], words].join("\n");
    return { x, y: value, low: value - half, high: value + half, open: false, title };
  });
  return { name: group.name, ...lookOf(group), hidden: hidden.has(k), strong: true, points };
}

function drawHeat(at) {
  const name = data.pairs[at.pair].name;
  const m = data.pairs[at.pair].m[at.subset];
  const size = m === null ? "" : `, at m = ${m.toLocaleString("en-US")}`;
  document.getElementById("heat-title").textContent = `${name}: ${data.subsets[at.subset]}${size}`;
  const wanted = `${at.pair} ${at.subset}`;
  if (heatDrawn !== wanted) {
    const limit = ratioLimit(at);
    const scale = d3.scaleDiverging([-limit, 0, limit], d3.interpolatePuOr).clamp(true);
    drawScale(document.getElementById("scale"), {
      type: "diverging-log", scheme: "PuOr", domain: [Math.exp(-limit), Math.exp(limit)], pivot: 1,
      label: `${shortened(name, 34)}, ratio`, ticks: scaleTicks(limit), tickFormat: ratioTick,
    });
    markCell = drawHeatMap(heat, {
      label: `Ratio of every layer and checkpoint, ${name}, ${data.subsets[at.subset]}`,
      rows: layers,
      columns: data.along.ticks,
      axisLabel: data.along.label,
      fill: (row, t) => {
        const { value, found } = ratioAt(at.pair, row + 1, at.subset, t);
        return found ? scale(value) : null;
      },
      hatched: (row, t) => {
        const { value, found } = ratioAt(at.pair, row + 1, at.subset, t);
        return Number.isFinite(value) && !found;
      },
      title: (row, t) => [layers[row], data.subsets[at.subset], placeNames[t],
                          ratioWords(ratioAt(at.pair, row + 1, at.subset, t))].join("\n"),
      choose: chooseCell,
    });
    heatDrawn = wanted;
  }
  markCell(at.row - 1, at.checkpoint);
}

function drawRatio(at) {
  const name = data.pairs[at.pair].name;
  const title = `Ratio of ${at.row === NETWORK ? "the whole network" : data.rows[at.row]} over training`;
  const points = places.map((x, t) => {
    const one = ratioAt(at.pair, at.row, at.subset, t);
    return { x, y: Math.exp(one.value), low: Math.exp(one.low), high: Math.exp(one.high), open: !one.found,
             title: [name, data.rows[at.row], placeNames[t], ratioWords(one)].join("\n") };
  }).filter((point) => Number.isFinite(point.y));
  const ends = points.flatMap((point) => [point.y, point.low, point.high]).filter((end) => end > 0);
  const reach = Math.max(2, ...ends.map((end) => Math.max(end, 1 / end))) * 1.1;
  const domain = [1 / reach, reach];
  document.getElementById("ratio-title").textContent = title;
  drawLines(document.getElementById("ratio"), {
    label: `${title}, ${name}`, axis,
    y: { type: "log", domain, label: "ratio", ticks: ratioTicks(Math.log(reach)), tickFormat: ratioTick, labelArrow: "none" },
    series: [{ name, colour: "var(--ink)", dash: [], symbol: "circle", turn: 0, strong: true, points }],
    guides: [{ y: 1, text: "" }], chosen: places[at.checkpoint],
  });
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

/** Where the first pair first differs as a whole for the chosen subset; else the last place. */
function firstSignificant() {
  const found = places.findIndex((place, t) => cubes.significant.at(0, NETWORK, subset.get(), t) === 1);
  return found < 0 ? places.length - 1 : found;
}
