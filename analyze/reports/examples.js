// The section of examples: a map that is sorted and filtered, and which label helps which.

const ON_MAP = 40; // rows that are drawn at once

if (data.examples?.map) drawExamples(data.examples.map);
if (data.examples?.help) drawHelp(data.examples.help);

function drawExamples(map) {
  const cosine = new Cube(map.cosine);
  const names = Object.keys(map.scores);
  const scores = Object.fromEntries(names.map((name) => [name, new Cube(map.scores[name])]));
  const ranks = Object.fromEntries(names.map((name) => [name, new Cube(map.ranks[name])]));
  const by = control("map-by", sort);
  const end = control("map-end", sort);
  const subset = control("map-subset", sort);
  const first = control("map-first", draw);
  const find = document.getElementById("map-find");
  const element = document.getElementById("map");
  const all = d3.range(map.ids.length);
  const subsets = [...document.getElementById("map-subset").options].slice(1).map((option) => option.text);
  const wordsOf = all.map((row) => [map.ids[row], subsets[map.subset[row]], map.given?.[row], map.true?.[row]].join(" ").toLowerCase());
  const limit = Math.max(0.01, d3.max(cosine.values, (value) => (value === NO_STEPS ? 0 : Math.abs(value) * cosine.step)) ?? 1);
  const colour = d3.scaleDiverging([-limit, 0, limit], d3.interpolatePuOr).clamp(true);
  let order = [];
  let chosen = [0, 0]; // a row of the map, and a checkpoint
  find.addEventListener("input", sort);
  listenToArrows(element, () => chosen, choose);
  subset.set(0);
  sort();
  drawAgain(draw);

  function sort() {
    const name = names[by.get()];
    const key = name === undefined ? (row) => map.ids[row] : (row) => scores[name].at(row);
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    order = all.filter((row) => (subset.get() === 0 || map.subset[row] === subset.get() - 1) && words.every((word) => wordsOf[row].includes(word)));
    const sign = end.get() === 0 ? -1 : 1;
    const place = (row) => (Number.isFinite(key(row)) ? sign * key(row) : Infinity); // without a score last
    order.sort((a, b) => place(a) - place(b) || map.ids[a] - map.ids[b]);
    first.element.max = String(Math.max(0, order.length - ON_MAP));
    first.set(0);
    chosen = [0, chosen[1]];
    draw();
  }

  function draw() {
    const shown = order.slice(first.get(), first.get() + ON_MAP);
    nameSlider(first, order.length ? `${first.get() + 1} of ${order.length}` : "none");
    chosen = [within(chosen[0], Math.max(0, shown.length - 1)), chosen[1]];
    document.getElementById("map-readout").textContent = shown.length ? words(shown[chosen[0]], chosen[1]) : "No example fits.";
    if (!shown.length) {
      element.replaceChildren();
      return;
    }
    drawScale(document.getElementById("map-scale"), { type: "diverging", scheme: "PuOr", domain: [-limit, limit], pivot: 0, label: "cosine with the others" });
    const mark = drawHeatMap(element, {
      label: "Cosine of each example's gradient with the others' at each checkpoint",
      rows: shown.map((row) => `${map.ids[row]} ${map.given?.[row] ?? subsets[map.subset[row]]}`),
      columns: data.training.ticks, axisLabel: data.training.label,
      fill: (row, t) => (Number.isFinite(cosine.at(shown[row], t)) ? colour(cosine.at(shown[row], t)) : null),
      title: (row, t) => words(shown[row], t, "\n"),
      choose,
    });
    mark(...chosen);
  }

  function words(row, t, separator = " \u00b7 ") {
    const parts = [`example ${map.ids[row]}`, subsets[map.subset[row]]];
    if (map.given) parts.push(map.true && map.true[row] !== map.given[row] ? `${map.given[row]} (true: ${map.true[row]})` : map.given[row]);
    const value = cosine.at(row, t);
    parts.push(`${data.training.names[t]}: cosine ${Number.isFinite(value) ? rounded(value) : "unknown"}`);
    const standing = names.filter((name) => Number.isFinite(ranks[name].at(row))).map((name) => `${name} ${rounded(scores[name].at(row))}, rank ${ranks[name].at(row)}`);
    return [...parts, ...standing].join(separator);
  }

  function choose(row, t) {
    const wanted = first.get() + row;
    if (row < 0 || row >= ON_MAP) first.set(within(first.get() + Math.sign(row), first.last()));
    chosen = [within(wanted - first.get(), ON_MAP - 1), within(t, data.training.names.length - 1)];
    draw();
  }
}

function drawHelp(help) {
  const cube = new Cube(help.values);
  const layer = control("help-layer", draw);
  const checkpoint = control("help-checkpoint", draw);
  const element = document.getElementById("help");
  const labels = help.labels;
  let chosen = [0, 0];
  checkpoint.set(data.start.checkpoint);
  listenToArrows(element, () => chosen, choose);
  drawAgain(draw);

  function draw() {
    const at = (a, b) => cube.at(layer.get(), checkpoint.get(), a, b);
    nameSlider(checkpoint, data.training.names[checkpoint.get()]);
    const values = d3.cross(d3.range(labels.length), d3.range(labels.length), at).filter(Number.isFinite);
    const limit = Math.max(0.001, d3.max(values, Math.abs) ?? 1);
    const colour = d3.scaleDiverging([-limit, 0, limit], d3.interpolatePuOr).clamp(true);
    const words = (a, b, separator) => [`${labels[a]} and ${a === b ? "others of it" : labels[b]}`, help.rows[layer.get()], data.training.names[checkpoint.get()],
                                        Number.isFinite(at(a, b)) ? `help ${rounded(at(a, b))}` : "no value"].join(separator);
    document.getElementById("help-readout").textContent = words(...chosen, " \u00b7 ");
    drawScale(document.getElementById("help-scale"), { type: "diverging", scheme: "PuOr", domain: [-limit, limit], pivot: 0, label: "help, in units of the norms" });
    const mark = drawHeatMap(element, {
      label: `Help between the labels of ${help.column}`, rows: labels, columns: labels, axisLabel: help.column,
      fill: (a, b) => (Number.isFinite(at(a, b)) ? colour(at(a, b)) : null),
      title: (a, b) => words(a, b, "\n"),
      choose,
    });
    mark(...chosen);
  }

  function choose(a, b) {
    chosen = [within(a, labels.length - 1), within(b, labels.length - 1)];
    draw();
  }
}
