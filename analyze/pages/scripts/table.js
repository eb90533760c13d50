// Tables that sort by a column's button and filter by their rows' names.

for (const table of document.querySelectorAll("table[data-sortable]")) {
  const body = table.tBodies[0];
  for (const head of table.querySelectorAll("thead th[data-column]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending" || (!head.hasAttribute("aria-sort") && head.classList.contains("n"));
      for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      body.append(...sorted([...body.rows], Number(head.dataset.column), down));
    });
  }
}

/** Rows by the values of a column, numbers by size; what has no value comes last either way. */
function sorted(rows, column, down) {
  const keys = new Map(rows.map((row) => [row, keyOf(row.cells[column])]));
  const order = (a, b) => {
    const [one, other] = [keys.get(a), keys.get(b)];
    if (one === null || other === null) return (one === null) - (other === null);
    return (down ? -1 : 1) * (typeof one === "number" && typeof other === "number" ? one - other
      : String(one).localeCompare(String(other), "en", { numeric: true }));
  };
  return rows.sort(order);
}

function keyOf(cell) {
  if (cell.dataset.value !== undefined) return cell.dataset.value === "" ? null : Number(cell.dataset.value);
  if (!cell.classList.contains("n")) return cell.textContent.trim();
  const plain = cell.textContent.trim().replace("\u2212", "-").replace(/^</, "").replace(/(?<=\d),(?=\d{3})/g, "");
  const number = parseFloat(plain); // of "13.8 \u00b1 1.9" the value
  return Number.isNaN(number) ? null : number;
}

for (const input of document.querySelectorAll("input[data-filter]")) {
  const rows = [...document.getElementById(input.dataset.filter).tBodies[0].rows];
  const count = document.getElementById(`${input.dataset.filter}-count`);
  const filter = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) {
      const text = row.dataset.words.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
    const shown = rows.filter((row) => !row.hidden).length;
    count.classList.toggle("part", shown < rows.length);
    count.textContent = shown === rows.length ? `${rows.length} rows` : `${shown} of ${rows.length} rows`;
  };
  input.addEventListener("input", filter);
  filter();
}
