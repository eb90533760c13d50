// The table of cosines between subsets, at the chosen checkpoint, in the words that the data have.

/** A function of a checkpoint that fills the table; without cosines it does nothing. */
function cosineTable({ cosines, training }) {
  if (!cosines) return () => {};
  const rows = [...document.querySelectorAll("#cosines tbody tr")];
  const count = rows.length;
  // The data have the cells on and above the diagonal, row by row.
  const place = (a, b) => (a > b ? place(b, a) : a * count - (a * (a - 1)) / 2 + b - a);
  return (t) => {
    document.getElementById("cosines-place").textContent = training.names[t];
    rows.forEach((row, a) => [...row.cells].slice(1).forEach((cell, b) => {
      const [text, spread, chance] = cosines[t][place(a, b)];
      const error = document.createElement("span");
      error.className = "error";
      error.textContent = spread;
      if (chance) error.append(Object.assign(document.createElement("sup"), { className: "mark", textContent: "n" }));
      cell.replaceChildren(text, error);
    }));
  };
}
