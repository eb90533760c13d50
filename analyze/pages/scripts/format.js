// Numbers and names as the page prints them.

const NOTHING = "\u2013";

/** Three significant digits, as in running text; `three_digits` in text.py has the same. */
function rounded(value) {
  if (!Number.isFinite(value)) return NOTHING;
  const size = Math.abs(value);
  const digits = size >= 99.95 ? Math.round(value).toLocaleString("en-US") : size > 0 && size < 1e-4 ? value.toExponential(2) : value.toPrecision(3);
  return digits.replaceAll("-", "\u2212");
}

/** `12.3 (95 %: 10.1 to 14.5)`; the interval is left out where it is unknown. */
function withInterval(value, low, high) {
  if (!Number.isFinite(low) || !Number.isFinite(high)) return rounded(value);
  return `${rounded(value)} (95 %: ${rounded(low)} to ${rounded(high)})`;
}

/** A step as a tick shows it: `1,280`, `120k`, `1.5M`; one of more digits with all of them, `13,559`. */
function compact(value) {
  const digits = (v) => (Number.isInteger(v) ? v : Number(v.toPrecision(6))).toLocaleString("en-US", { maximumFractionDigits: 12 });
  if (value !== Number(value.toPrecision(3))) return digits(value);
  if (Math.abs(value) >= 1e6) return `${digits(value / 1e6)}M`;
  if (Math.abs(value) >= 1e4) return `${digits(value / 1e3)}k`;
  return digits(value);
}

/** A long name without its middle, cut so that layers stay apart, as in figures/names.py: dotted parts without a
 *  number are left out from the middle on, then the first is its initial, then letters of the middle are left out. */
function shortened(name, longest) {
  const parts = name.split(".");
  const joined = (some) => some.join(".").replace(/\.{2,}/g, "\u2026");
  const inner = parts.map((part, k) => k).slice(1, -1).filter((k) => !/\d/.test(parts[k]));
  inner.sort((a, b) => Math.abs(2 * a - parts.length + 1) - Math.abs(2 * b - parts.length + 1) || a - b);
  for (const k of inner) {
    if (joined(parts).length <= longest) break;
    parts[k] = "";
  }
  if (joined(parts).length > longest && parts.length > 1 && !/\d/.test(parts[0])) parts[0] = parts[0].slice(0, 1);
  const short = joined(parts);
  if (short.length <= longest) return short;
  const head = Math.floor(longest / 3);
  return `${short.slice(0, head)}\u2026${short.slice(short.length - (longest - head - 1))}`;
}

/** The look of a subset, run or group, as `drawLines` takes it. */
function lookOf({ colour, dash, symbol, turn }) {
  return { colour: pageColour(colour), dash, symbol, turn };
}

/** A colour of the figures as the page's variable, which follows light and dark. */
function pageColour(colour) {
  return `var(--c-${colour.slice(1)}, ${colour})`;
}
