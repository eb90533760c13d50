// Light or dark as the system has it, until the reader chooses; the choice is kept where that is allowed.
{
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const kept = (value) => {
    try {
      return value ? localStorage.setItem("analyze-theme", value) : localStorage.getItem("analyze-theme");
    } catch {
      return null; // a page in a sandbox keeps nothing
    }
  };
  const theme = () => root.dataset.theme ?? (system.matches ? "dark" : "light");
  const show = () => {
    const button = document.getElementById("theme");
    button.setAttribute("aria-pressed", theme() === "dark");
    button.title = `${theme() === "dark" ? "Light" : "Dark"} colours`;
    document.dispatchEvent(new Event("theme"));
  };
  root.classList.add("with-script");
  const chosen = kept();
  if (chosen === "dark" || chosen === "light") root.dataset.theme = chosen;
  system.addEventListener("change", show);
  document.addEventListener("DOMContentLoaded", () => {
    document.getElementById("theme").addEventListener("click", () => {
      root.dataset.theme = theme() === "dark" ? "light" : "dark";
      kept(root.dataset.theme);
      show();
    });
    show();
  });
}
