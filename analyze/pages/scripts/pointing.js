// What happens at the pointer and the finger: words that stay after a tap, and spans that are dragged.

const DRAGGED = 8; // pixels from which on a movement is no click

/** The words at the pointer follow it, and stay after a tap; a click holds nothing fast. */
function keepWords(element) {
  element.addEventListener("pointerdown", (event) => event.stopPropagation(), true); // the library's would
  element.addEventListener("click", ({ clientX, clientY }) => requestAnimationFrame(() => {
    const moved = new PointerEvent("pointermove", { clientX, clientY, pointerType: "mouse", bubbles: true });
    element.querySelector(":scope > svg")?.dispatchEvent(moved);
  }));
}

/** Spans of a chart that are dragged over: `span(left, right)` in pixels of the chart. A finger drags sideways only. */
function listenToSpans(element, span) {
  element.classList.add("spans");
  let from = null; // where the pointer went down
  let shade = null;
  const at = (event) => event.clientX - element.getBoundingClientRect().left;
  const end = () => {
    shade?.remove();
    [from, shade] = [null, null];
  };
  element.addEventListener("pointerdown", (event) => {
    if (event.button === 0) from = at(event);
  }, true);
  element.addEventListener("pointermove", (event) => {
    if (from === null) return;
    if (!shade && Math.abs(at(event) - from) > DRAGGED) {
      shade = Object.assign(document.createElement("div"), { className: "shade" });
      element.append(shade);
      element.setPointerCapture(event.pointerId);
    }
    if (shade) Object.assign(shade.style, { left: `${Math.min(from, at(event))}px`, width: `${Math.abs(at(event) - from)}px` });
  });
  element.addEventListener("pointerup", (event) => {
    if (!shade) return end();
    const ends = d3.extent([from, at(event)]);
    end();
    element.addEventListener("click", (click) => click.stopPropagation(), { capture: true, once: true });
    setTimeout(() => span(...ends)); // after the click that follows
  });
  element.addEventListener("pointercancel", end);
}
