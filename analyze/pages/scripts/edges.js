// What scrolls in a box of its own fades where it goes on, and keys reach it.
{
  const BOXES = ".scroll, .contents ul";
  const look = (box) => {
    const [right, down] = [box.scrollWidth - box.clientWidth, box.scrollHeight - box.clientHeight];
    box.classList.toggle("more-left", box.scrollLeft > 1);
    box.classList.toggle("more-right", box.scrollLeft < right - 1);
    box.classList.toggle("more-below", box.scrollTop < down - 1);
    if (box.querySelector("a")) return; // links take keys there
    if (right > 1 || down > 1) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  };
  const changed = new ResizeObserver((entries) => new Set(entries.map(({ target }) => target.closest(BOXES))).forEach(look));
  for (const box of document.querySelectorAll(BOXES)) {
    box.addEventListener("scroll", () => look(box), { passive: true });
    for (const sized of [box, ...box.children]) changed.observe(sized);
  }
}
