// On paper a table that is wider than the sheet is printed in parts, each with the names of its rows.

const SHEET = 688; // pixels of 182 mm, the width of A4 between its margins
const DIGIT = 0.56; // of a font's size: the width of a digit
const BETWEEN = 8; // pixels, of a column's margins
const BREAKS = 12; // letters of a word after which it goes on in the next line

matchMedia("print").addEventListener("change", ({ matches }) => {
  for (const part of document.querySelectorAll(".part-on-paper")) part.remove();
  for (const table of document.querySelectorAll("main .scroll > table")) {
    const parts = matches ? partsOf(table) : [];
    if (parts.length > 1) table.after(...parts.map((part) => ofColumns(table, part)));
    table.classList.toggle("in-parts", parts.length > 1);
  }
});

/** The columns `{ from, to }` of each part; no group of columns is divided that fits the sheet. */
function partsOf(table) {
  const rows = placed(table);
  const widths = widthsOf(rows, parseFloat(getComputedStyle(table).fontSize));
  const wide = (from, to) => d3.sum(widths.slice(from, to));
  const room = SHEET - widths[0];
  const whole = (rows[0] ?? []).filter(({ from, to }) => wide(from, to) <= room);
  const ends = d3.range(2, widths.length + 1).filter((column) => !whole.some(({ from, to }) => from < column && column < to));
  const parts = [];
  for (let from = 1, to; from < widths.length; from = to) {
    to = ends.findLast((end) => end > from && wide(from, end) <= room) ?? from + 1;
    parts.push({ from, to });
  }
  return parts;
}

/** Every row's cells with the columns `from` to `to` that they stand in. */
function placed(table) {
  const taken = []; // of each column, in how many rows from the present one on a cell above reaches
  return [...table.rows].map((row) => {
    let column = 0;
    const cells = [...row.cells].map((cell) => {
      while (taken[column] > 0) column += 1;
      const from = column;
      for (; column < from + cell.colSpan; column++) taken[column] = cell.rowSpan;
      return { cell, from, to: column };
    });
    for (const k of taken.keys()) taken[k] = Math.max(0, (taken[k] ?? 0) - 1);
    return cells;
  });
}

/** What each column needs: its longest word or error, in letters of the table's font. */
function widthsOf(rows, size) {
  const letters = [];
  for (const { cell, from, to } of rows.flat()) {
    if (to - from > 1) continue;
    const error = cell.querySelector(".error")?.textContent ?? "";
    const words = cell.textContent.replace(error, " ").split(/\s+/);
    letters[from] = Math.max(letters[from] ?? 0, error.length, ...words.map((word) => Math.min(word.length, BREAKS)));
  }
  return Array.from(letters, (count) => BETWEEN + DIGIT * size * (count ?? 0));
}

/** A copy of a table with its first column and some others. */
function ofColumns(table, { from: first, to: end }) {
  const part = table.cloneNode(true);
  part.className += " part-on-paper";
  for (const named of [part, ...part.querySelectorAll("[id]")]) named.removeAttribute("id");
  for (const { cell, from, to } of placed(part).flat()) {
    if (from === 0) continue;
    const shown = Math.min(to, end) - Math.max(from, first);
    if (shown > 0) cell.colSpan = shown;
    else cell.remove();
  }
  return part;
}
