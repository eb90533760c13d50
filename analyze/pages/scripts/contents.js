// The list of contents: it marks the section that is read, and leaves the address to the reader's choices.
{
  const links = [...document.querySelectorAll(".contents a")];
  const headings = links.map((link) => document.getElementById(link.hash.slice(1)));
  const list = document.querySelector(".contents ul");
  links.forEach((link, k) => link.addEventListener("click", (event) => {
    event.preventDefault(); // the address would lose what was chosen
    headings[k].scrollIntoView({ block: "start" });
    headings[k].focus({ preventScroll: true });
  }));

  const reached = () => headings.findLastIndex((heading) => heading.getBoundingClientRect().top < 0.4 * innerHeight);
  let current = -1;
  const mark = () => {
    if (reached() === current) return;
    links[current]?.removeAttribute("aria-current");
    current = reached();
    links[current]?.setAttribute("aria-current", "true");
    const link = links[current]?.getBoundingClientRect();
    const room = list.getBoundingClientRect();
    if (link && (link.left < room.left || link.right > room.right)) list.scrollBy({ left: link.left - room.left - 24 });
  };
  addEventListener("scroll", mark, { passive: true });
  mark();
}
