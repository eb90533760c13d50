// A choice among many names by typing: a field with a list of those that fit, ARIA's pattern of a combobox.

/** A field with the id as `control` has it: `{ element, get, set, last }`. rows: [[name, further words]]. */
function typedChoice(id, rows, changed) {
  const element = document.getElementById(id);
  const list = document.getElementById(`${id}-list`);
  let chosen = 0;
  let fitting = []; // rows in the list
  let active = -1; // of them
  const show = () => {
    element.value = rows[chosen][0];
    element.title = rows[chosen][0];
  };

  function open(words) {
    const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
    fitting = d3.range(rows.length).filter((row) => wanted.every((word) => rows[row].join(" ").toLowerCase().includes(word)));
    list.replaceChildren(...fitting.map((row, k) => option(row, k)));
    if (!fitting.length) list.append(Object.assign(document.createElement("li"), { textContent: "none fits", className: "none" }));
    list.hidden = false;
    element.setAttribute("aria-expanded", "true");
    activate(words ? 0 : fitting.indexOf(chosen));
  }

  function option(row, k) {
    const item = document.createElement("li");
    item.id = `${id}-${row}`;
    item.setAttribute("role", "option");
    item.setAttribute("aria-selected", row === chosen);
    item.append(rows[row][0], Object.assign(document.createElement("span"), { textContent: rows[row][1] }));
    item.addEventListener("pointerdown", (event) => event.preventDefault()); // the field keeps the focus
    item.addEventListener("click", () => take(k));
    return item;
  }

  function close() {
    list.hidden = true;
    list.replaceChildren();
    element.setAttribute("aria-expanded", "false");
    element.removeAttribute("aria-activedescendant");
    show();
    if (document.activeElement === element) element.select(); // what is typed next takes its place
  }

  function activate(k) {
    list.children[active]?.classList.remove("active");
    active = fitting.length ? within(k, fitting.length - 1) : -1;
    const item = list.children[active];
    if (active < 0) return element.removeAttribute("aria-activedescendant");
    item.classList.add("active");
    element.setAttribute("aria-activedescendant", item.id);
    item.scrollIntoView({ block: "nearest" });
  }

  function take(k) {
    if (!fitting.length) return;
    chosen = fitting[k];
    close();
    changed();
  }

  const keys = {
    ArrowDown: () => (list.hidden ? open("") : activate(active + 1)),
    ArrowUp: () => (list.hidden ? open("") : activate(active - 1)),
    PageDown: () => !list.hidden && activate(active + 10),
    PageUp: () => !list.hidden && activate(active - 10),
    Enter: () => !list.hidden && take(active),
    Escape: () => !list.hidden && close(),
  };
  element.addEventListener("keydown", (event) => {
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  });
  element.addEventListener("input", () => open(element.value));
  element.addEventListener("click", () => {
    if (list.hidden) open("");
    element.select();
  });
  element.addEventListener("blur", close);
  show();
  return {
    element,
    get: () => chosen,
    set: (row) => {
      chosen = row;
      show();
    },
    last: () => rows.length - 1,
  };
}
