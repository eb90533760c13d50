// Axes that the charts share, as options of Plot.

const DENSE_EARLY = 0.25; // of the range: where the middle checkpoint lies when early ones are dense
const APART = 34; // pixels between the middles of two ticks

/** The axis along training: logarithmic beyond the first checkpoint (symlog) where early ones are dense; a loss
 *  falls from left to right, on a logarithmic axis where it falls by more than three decades. `scale` asks for a
 *  "linear" or "logarithmic" one. */
function trainingAxis({ values, label, falling = false, scale: wanted }, width) {
  const known = [...new Set(values.filter(Number.isFinite))].sort(d3.ascending);
  const common = { label, tickFormat: compact, labelAnchor: "center", labelArrow: "none" };
  if (known.length < 2) {
    const middle = known[0] ?? 0;
    return { ...common, domain: [middle - 1, middle + 1], ticks: known };
  }
  const domain = d3.extent(known);
  if (falling) return { ...common, ...fallingScale(domain, width, wanted), domain, reverse: true };
  const constant = known.find((value) => value > 0);
  if (constant === undefined || !(wanted === undefined ? isDenseEarly(known) : wanted === "logarithmic")) {
    const ticks = d3.ticks(...domain, Math.max(2, Math.floor(width / 90)));
    return { ...common, domain, ticks: known.every(Number.isInteger) ? ticks.filter(Number.isInteger) : ticks };
  }
  const scale = d3.scaleSymlog().domain(domain).range([0, width]).constant(constant);
  return { ...common, type: "symlog", constant, domain, ticks: apart(placesOf(constant, domain), scale) };
}

/** Of losses: their scale and ticks. */
function fallingScale([low, high], width, wanted) {
  const tickFormat = (value) => String(Number(value.toPrecision(2)));
  if (low > 0 && (wanted === undefined ? high / low > 1e3 : wanted === "logarithmic")) return { type: "log", ticks: logTicks([low, high]), tickFormat };
  return { ticks: Math.max(2, Math.floor(width / 90)), tickFormat };
}

/** Half of the checkpoints in the first part of a range of more than a decade. */
function isDenseEarly(known) {
  const positive = known.filter((value) => value > 0);
  const last = known[known.length - 1];
  if (positive.length < 3 || known[0] < 0 || last / positive[0] <= 10) return false;
  return d3.median(known) < DENSE_EARLY * last;
}

/** Round places on a logarithmic axis; where it has few of them, those of a linear one. */
function placesOf(constant, domain) {
  const round = roundPlaces(constant, domain);
  return round.length > 2 ? round : d3.ticks(...domain, 5);
}

/** 0, and 1, 2 and 5 times powers of ten from `first` on. */
function roundPlaces(first, [low, high]) {
  const places = low <= 0 ? [0] : [];
  for (let decade = Math.floor(Math.log10(first)); 10 ** decade <= high; decade++)
    for (const digit of [1, 2, 5]) places.push(digit * 10 ** decade);
  return places.filter((place) => place === 0 || (place >= first && place >= low && place <= high));
}

/** Those of the places that have room on the axis; round powers of ten come first. */
function apart(places, scale) {
  const kept = [];
  const rank = (place) => (place === 0 || Number.isInteger(Number(Math.log10(place).toFixed(9))) ? 0 : 1);
  for (const place of [...places].sort((a, b) => rank(a) - rank(b) || a - b))
    if (kept.every((other) => Math.abs(scale(other) - scale(place)) >= APART)) kept.push(place);
  return kept.sort(d3.ascending);
}

/** An axis around what is drawn and around 1, which all coherence is read against: logarithmic, or linear from 0. */
function coherenceAxis(values, label = "m-coherence (examples)", linear = false) {
  if (linear) {
    const domain = [0, Math.max(d3.max(values.filter(Number.isFinite)) ?? 10, 1.5) * 1.06];
    return { domain, label, ticks: d3.ticks(...domain, 6), tickFormat: compact, labelArrow: "none" };
  }
  const positive = values.filter((value) => Number.isFinite(value) && value > 0);
  const [low, high] = [(d3.min(positive) ?? 1), (d3.max(positive) ?? 10)];
  const domain = [Math.max(Math.min(low, 1) / 1.4, 1e-3), Math.max(high, 3) * 1.4];
  return { type: "log", domain, label, ticks: logTicks(domain), tickFormat: compact, labelArrow: "none" };
}

/** Powers of ten, and 2 and 5 times those where few fit. */
function logTicks([low, high]) {
  const digits = high / low > 2e3 ? [1] : high / low > 60 ? [1, 3] : [1, 2, 5];
  const ticks = [];
  for (let decade = Math.floor(Math.log10(low)); 10 ** decade <= high; decade++)
    for (const digit of digits) ticks.push(digit * 10 ** decade);
  return ticks.filter((tick) => tick >= low && tick <= high);
}

/** The ticks of an axis as a mark: given to Plot as options, those of a logarithmic axis would lose some labels. */
function ticksOf(axis, options) {
  return axis(options.ticks, { text: options.tickFormat, label: options.label, labelArrow: "none",
                               labelAnchor: options.labelAnchor });
}

/** What stands in a chart's svg element for all charts. */
function frame(width, height, label) {
  return {
    width, height,
    ariaLabel: label,
    style: { fontFamily: "inherit", fontSize: "12px", background: "none", overflow: "visible" },
  };
}

/** Put a chart into its element, whose name says what is in it; the marks themselves are not read out. */
function put(element, chart, label) {
  chart.setAttribute("aria-hidden", "true");
  element.replaceChildren(chart);
  chart.addEventListener("input", () => requestAnimationFrame(() => moveInside(chart)));
  if (element.hasAttribute("aria-labelledby")) return;
  element.setAttribute("role", "img");
  element.setAttribute("aria-label", label);
}

/** Move the words at the pointer into their chart, which cuts off what stands out of it to the side. */
function moveInside(chart) {
  const words = chart.querySelector('[aria-label="tip"] > g');
  if (!words) return;
  const [all, box] = [chart.getBoundingClientRect(), words.getBoundingClientRect()];
  const aside = Math.max(all.left - box.left, Math.min(0, all.right - box.right));
  if (aside) words.setAttribute("transform", `translate(${aside},0) ${words.getAttribute("transform") ?? ""}`);
}

/** Pixels that an element leaves to a chart. */
function roomOf(element) {
  return Math.max(260, Math.floor(element.getBoundingClientRect().width));
}
