// What the reader keeps in view beside what is chosen: layers, checkpoints.

const WITH_BANDS = 4; // layers up to which each has its band

/**
 * Pins as `{ list(), slot(k), draw(), address }`: the pinned ones in their order, the place of one among the looks,
 * which stays while it is pinned, and the part of the address.
 *
 * The page has a button `pin-KIND` that pins what `now()` is, or takes its pin away, and a list `pinned-KINDs`; there may
 * be as many as the data have looks.
 */
function pins({ kind, names, now, changed }) {
  const [button, chips] = [byId(`pin-${kind}`), byId(`pinned-${kind}s`)];
  const most = data.looks.length;
  const keys = numbered(names);
  const slots = new Array(most).fill(null); // what is pinned at each place
  let order = [];

  function toggle(k) {
    if (order.includes(k)) {
      slots[slots.indexOf(k)] = null;
      order = order.filter((other) => other !== k);
    } else if (order.length < most) {
      slots[slots.indexOf(null)] = k;
      order.push(k);
    }
  }

  function draw() {
    const pressed = order.includes(now());
    button.setAttribute("aria-pressed", pressed);
    button.textContent = pressed ? "Pinned" : "Pin";
    button.setAttribute("aria-label", `${pressed ? "Pinned" : "Pin"} ${kind} ${names[now()]}`);
    button.disabled = !pressed && order.length === most;
    button.title = button.disabled ? `at most ${most} at once` : `keep this ${kind} in the charts`;
    chips.replaceChildren(...order.map((k, place) => {
      const item = document.createElement("li");
      const chip = Object.assign(document.createElement("button"), { type: "button", textContent: `${names[k]} \u00d7` });
      chip.setAttribute("aria-label", `Unpin ${kind} ${names[k]}`);
      chip.addEventListener("click", () => {
        toggle(k);
        changed();
        (chips.querySelectorAll("button")[place] ?? button).focus();
      });
      item.append(chip);
      return item;
    }));
  }

  button.addEventListener("click", () => {
    toggle(now());
    changed();
  });
  return {
    list: () => [...order],
    slot: (k) => slots.indexOf(k),
    draw,
    address: {
      get: () => order.map((k) => keys[k]),
      set: (texts) => {
        for (const k of [...order]) toggle(k);
        const known = [...new Set(texts.filter((text) => keys.includes(text)))].slice(0, most);
        for (const text of known) toggle(keys.indexOf(text));
        return texts.filter((text) => !known.includes(text));
      },
    },
  };
}

/** Draw what is pinned of several kinds. */
function drawPins(...kinds) {
  for (const kind of kinds) kind.draw();
  byId("pinned").hidden = kinds.every((kind) => !kind.list().length);
}

/** What is chosen, and then the pinned ones. */
function withPinned(now, kind) {
  return [...new Set([now, ...kind.list()])];
}
