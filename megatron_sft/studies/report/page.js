"use strict";
// Clicking a heading sorts its table: numbers downwards first, text upwards; cells without a value stay last.
for (const button of document.querySelectorAll("tr.sorted-by button")) {
  button.addEventListener("click", () => {
    const heading = button.closest("th");
    const table = button.closest("table");
    const body = table.tBodies[0];
    const place = heading.cellIndex;
    const key = row => row.cells[place].dataset.sort;
    const known = [...body.rows].map(key).filter(value => value !== undefined);
    const isNumeric = known.length > 0 && known.every(value => value !== "" && Number.isFinite(Number(value)));
    const before = heading.getAttribute("aria-sort");
    const order = before === null ? (isNumeric ? "descending" : "ascending") : before === "ascending" ? "descending" : "ascending";
    for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const rows = [...body.rows].sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
      return sign * (isNumeric ? Number(x) - Number(y) : x.localeCompare(y, "en", { numeric: true }));
    });
    body.append(...rows);
  });
}
const theme = document.getElementById("theme");
theme.hidden = false;
theme.addEventListener("click", () => {
  const root = document.documentElement;
  const isDark = getComputedStyle(root).colorScheme === "dark";
  root.dataset.theme = isDark ? "light" : "dark";
});
// A link to something inside a closed part opens it.
function open() {
  const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
  const part = target && target.closest("details");
  if (part) {
    part.open = true;
    target.scrollIntoView();
  }
}
addEventListener("hashchange", open);
open();
