// One size for all that stands side by side: values as of the number of examples that is chosen.

/**
 * Of m examples with unbiased alpha a = (c - 1) / (m - 1), n examples are expected to show
 * 1 + (n - 1) a; of interval ends below 0 beyond the size measured, 0. Size null is each subset's own m, 0 is a itself.
 */
function atSize(value, m, size, end = false) {
  if (size === null) return value;
  const alpha = m > 1 ? (value - 1) / (m - 1) : NaN;
  if (size === 0) return alpha;
  const shown = 1 + (size - 1) * alpha;
  return end ? Math.max(shown, 0) : shown;
}

/** The axis of m-coherence at a size: logarithmic around 1; of unbiased alpha, which may be negative, linear around 0. */
function sizedAxis(values, { quantity, size }, linear) {
  if (size !== 0) return coherenceAxis(values, quantity, linear);
  const known = values.filter(Number.isFinite);
  const domain = [Math.min(0, d3.min(known) ?? 0), Math.max(1e-4, d3.max(known) ?? 0)].map((end) => end * 1.1);
  return { type: "linear", domain, label: quantity, ticks: d3.ticks(...domain, 5), tickFormat: compact, labelArrow: "none" };
}

/** Lines where gradients are orthogonal, and where all of m are equal. */
function guidesAt({ size }, m) {
  const [orthogonal, identical] = size === 0 ? [0, 1] : [1, size ?? m];
  const name = `${size === 0 ? "" : "m = "}${identical.toLocaleString("en-US")}`;
  return [{ y: orthogonal, text: `${orthogonal}: orthogonal` }, { y: identical, text: `${name}: identical` }];
}
