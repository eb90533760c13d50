// The table of cosines between subsets, at the chosen checkpoint.

/** A function of a checkpoint that fills the table; without cosines it does nothing. */
function cosineTable({ cosines, training }) {
  if (!cosines) return () => {};
  const [values, errors, chance] = ["values", "errors", "chance"].map((name) => new Cube(cosines[name]));
  const rows = [...document.querySelectorAll("#cosines tbody tr")];
  return (t) => {
    document.getElementById("cosines-place").textContent = training.names[t];
    rows.forEach((row, a) => [...row.cells].slice(1).forEach((cell, b) => {
      const error = document.createElement("span");
      error.className = "error";
      error.textContent = spreadOf(errors.at(t, a, b));
      if (chance.at(t, a, b)) error.append(Object.assign(document.createElement("sup"), { className: "mark", textContent: "n" }));
      cell.replaceChildren(cosineOf(values.at(t, a, b)), error);
    }));
  };
}

function cosineOf(value) {
  if (!Number.isFinite(value)) return "\u2013";
  return (value < 0 ? "\u2212" : "+") + Math.abs(value).toFixed(2);
}

function spreadOf(error) {
  if (!Number.isFinite(error)) return "";
  return `\u00b1 ${error >= 0.005 ? error.toFixed(2) : "<0.01"}`;
}
