// Choices of the reader: controls with a number each, and what follows a change.

function byId(id) {
  return document.getElementById(id);
}

/** A select or a slider as `{ get, set }`; `changed` is called when the reader has changed it. */
function control(id, changed) {
  const element = document.getElementById(id);
  element.addEventListener("input", () => changed());
  return {
    element,
    get: () => Number(element.value),
    set: (value) => {
      element.value = String(value);
    },
    last: () => (element.options ? element.options.length : Number(element.max) + 1) - 1,
  };
}

/** The place of a slider in words, seen and read out. */
function nameSlider(slider, name) {
  slider.element.setAttribute("aria-valuetext", name);
  document.getElementById(`${slider.element.id}-name`).textContent = name;
}

/** Call `draw` now, and again where colours or the page's width have changed; once a frame at most. For paper, which has
 *  a width of its own, at once: a browser prints what is there when it has told. */
function drawAgain(draw) {
  let asked = false;
  let width = document.documentElement.clientWidth;
  const ask = () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      draw();
    });
  };
  document.addEventListener("theme", ask);
  window.addEventListener("resize", () => {
    if (width === document.documentElement.clientWidth) return; // a phone's address bar alone
    width = document.documentElement.clientWidth;
    ask();
  });
  const paper = (on) => {
    document.documentElement.classList.toggle("on-paper", on);
    draw();
  };
  window.addEventListener("beforeprint", () => paper(true));
  window.addEventListener("afterprint", () => paper(false));
  draw();
  return ask;
}

/** A whole number between 0 and `last`. */
function within(value, last) {
  return Math.min(Math.max(value, 0), last);
}
