// A part of the training: the checkpoints between two of them, chosen by dragging, by buttons or by the address.

const FEWEST = 3; // checkpoints that remain

/**
 * `{ shows(t), shown(), between(from, to), draw(), address }`.
 *
 * places: of the checkpoints along training, NaN where unknown; names: of the checkpoints; now(): the chosen one; noun: what they are.
 * The page has buttons `zoom-closer`, `-wider`, `-earlier`, `-later`, `-whole`, and `zoom-words` says what is shown.
 */
function zooming({ places, falling, names, now, changed, noun = "checkpoint" }) {
  const words = byId("zoom-words");
  const buttons = Object.fromEntries(["closer", "wider", "earlier", "later", "whole"].map((name) => [name, byId(`zoom-${name}`)]));
  const keys = numbered(names);
  const known = d3.range(places.length).filter((t) => Number.isFinite(places[t]));
  const order = known.sort((a, b) => (falling ? places[b] - places[a] : places[a] - places[b]));
  let ends = null; // the first and the last shown, as places in `order`; null: all

  const now_ = () => Math.max(0, order.indexOf(now()));
  const first = () => (ends ? ends[0] : 0);
  const count = () => (ends ? ends[1] - ends[0] + 1 : order.length);

  function show(from, size) {
    const wanted = Math.min(Math.max(size, Math.min(FEWEST, order.length)), order.length);
    const start = within(from, order.length - wanted);
    ends = wanted === order.length ? null : [start, start + wanted - 1];
  }

  function resize(size) {
    const inside = ends && now_() >= ends[0] && now_() <= ends[1];
    const middle = inside || !ends ? now_() : first() + Math.floor(count() / 2);
    show(middle - Math.floor(size / 2), size);
  }

  const actions = {
    closer: () => resize(Math.ceil(count() / 2)),
    wider: () => resize(2 * count()),
    earlier: () => show(first() - Math.ceil(count() / 2), count()),
    later: () => show(first() + Math.ceil(count() / 2), count()),
    whole: () => show(0, order.length),
  };
  for (const [name, act] of Object.entries(actions))
    buttons[name].addEventListener("click", () => {
      act();
      changed();
    });

  /** One end in the address; both together are the part. */
  const end = (k) => ({
    get: () => (ends ? [keys[order[ends[k]]]] : []),
    set: (texts) => {
      const place = order.findIndex((t) => keys[t] === texts[0]);
      if (place < 0) {
        if (k === 0) ends = null;
        return texts;
      }
      if (k === 0) ends = [place, order.length - 1];
      else show(Math.min(first(), place), Math.abs(place - first()) + 1);
      return texts.slice(1);
    },
  });

  return {
    shows: (t) => !ends || order.slice(ends[0], ends[1] + 1).includes(t),
    shown: () => (ends ? order.slice(ends[0], ends[1] + 1).sort(d3.ascending) : d3.range(places.length)),
    between: (from, to) => {
      const inside = order.map((t, place) => place).filter((place) => {
        const value = places[order[place]];
        return value >= Math.min(from, to) && value <= Math.max(from, to);
      });
      if (inside.length) show(inside[0], inside.length);
    },
    draw: () => {
      const whole = ends === null;
      document.documentElement.classList.toggle("zoomed", !whole); // which paper says too
      buttons.closer.disabled = count() <= FEWEST;
      for (const name of ["wider", "whole"]) buttons[name].disabled = whole;
      buttons.earlier.disabled = first() === 0;
      buttons.later.disabled = first() + count() === order.length;
      const all = `${places.length} ${noun}${places.length === 1 ? "" : "s"}`;
      words.textContent = whole ? all : `${count()} of ${all}`;
    },
    address: { from: end(0), to: end(1) },
  };
}
