// What the reader has chosen stands in the address, so that a link shows what was seen:
// `#layer=conv1&layer=fc&subset=clean&checkpoint=step+400`. A key with several values stands several times.

const SETTLED = 200; // milliseconds without a further choice: browsers limit how often an address may change

const kept = new Map(); // of each key its choice: { get() -> texts, set(texts) -> the unknown ones }
const followers = new Set(); // what draws after the address has changed
const untouched = { text: "" }; // the address of the page as it opens
let waiting = 0;

/** Keep choices in the address, by their keys, and take what it says now; `draw` follows when it changes later.
 *  `set([])` makes a choice what it is at the start, where the address says nothing of it. */
function keepInAddress(choices, draw) {
  for (const [key, choice] of Object.entries(choices)) kept.set(key, choice);
  untouched.text = asAddress();
  followers.add(draw);
  takeAddress(Object.keys(choices));
}

/** Of a control with one of the options `names`; a name that stands twice is numbered from the second on. */
function namedChoice(one, names) {
  const keys = numbered(names);
  const start = one.get();
  return {
    get: () => [keys[one.get()]],
    set: (texts) => {
      const known = texts.filter((text) => keys.includes(text));
      one.set(known.length ? keys.indexOf(known[0]) : start);
      return texts.filter((text) => !keys.includes(text));
    },
  };
}

/** Names that differ: `fc`, `fc (2)`. */
function numbered(names) {
  const seen = new Map();
  return names.map((name) => {
    const count = (seen.get(name) ?? 0) + 1;
    seen.set(name, count);
    return count === 1 ? name : `${name} (${count})`;
  });
}

/** Write what is chosen into the address, when the reader has stopped choosing. */
function writeAddress() {
  clearTimeout(waiting);
  const before = location.hash;
  waiting = setTimeout(() => {
    if (location.hash !== before) return; // a link was followed meanwhile: what it says comes next
    const text = asAddress();
    if (text === location.hash.slice(1) || (text === untouched.text && !location.hash)) return;
    try {
      history.replaceState(history.state, "", `#${text}`);
    } catch {
      // a page inside of another one may have no address of its own
    }
  }, SETTLED);
}

function asAddress() {
  const pairs = [...kept].flatMap(([key, choice]) => choice.get().map((text) => [key, text]));
  return new URLSearchParams(pairs).toString();
}

/** An address without `=` is a place on the page, not a choice. */
function fromAddress() {
  return new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");
}

function takeAddress(keys) {
  const said = fromAddress();
  const unknown = keys.flatMap((key) => kept.get(key).set(said.getAll(key)).map((text) => `${key} \u201c${text}\u201d`));
  if (unknown.length) tellUnknown(unknown);
}

window.addEventListener("load", () => tellUnknown(strangers()));
window.addEventListener("hashchange", () => {
  clearTimeout(waiting);
  if (!location.hash.includes("=")) {
    writeAddress(); // a place was gone to: the choices are as they were
    return;
  }
  document.getElementById("address-notice")?.remove();
  takeAddress([...kept.keys()]);
  tellUnknown(strangers());
  for (const draw of followers) draw();
});

/** Keys of the address that no choice of this page has. */
function strangers() {
  return [...new Set(fromAddress().keys())].filter((key) => key && !kept.has(key)).map((key) => `a choice \u201c${key}\u201d`);
}

/** Say what the address asks for and this page does not have. */
function tellUnknown(unknown) {
  if (!unknown.length) return;
  let notice = document.getElementById("address-notice");
  if (!notice) {
    notice = Object.assign(document.createElement("p"), { id: "address-notice", className: "note scripted" });
    notice.setAttribute("role", "status");
    document.querySelector(".controls").before(notice);
  }
  const before = notice.textContent ? `${notice.textContent.slice(0, -1)}; ` : "The link asks for what this page does not have: ";
  notice.textContent = `${before}${unknown.slice(0, 5).join(", ")}${unknown.length > 5 ? " and more" : ""}.`;
}
