"use strict";
// The page is whole without this script: it only adds sorting, details on tap, and larger pictures.

const valueOf = (cell, metric) => {
  if (!cell) return NaN;
  const text = cell.dataset.v ?? cell.dataset[metric];
  return text === undefined || text === "" ? NaN : Number(text);
};

function sortTable(table, column, kind) {
  const header = table.tHead.rows[0].cells[column];
  const rising = header.getAttribute("aria-sort") === "descending" || (kind === "text" && !header.hasAttribute("aria-sort"));
  for (const cell of table.tHead.rows[0].cells) cell.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", rising ? "ascending" : "descending");
  const sign = rising ? 1 : -1;
  const metric = document.querySelector("input[name=metric]:checked")?.value ?? "f1";
  const compare = (a, b) => {
    if (kind === "text") return sign * (a.cells[column]?.textContent ?? "").localeCompare(b.cells[column]?.textContent ?? "");
    const [x, y] = [valueOf(a.cells[column], metric), valueOf(b.cells[column], metric)];
    if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y); // without a value: last
    return sign * (x - y);
  };
  table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
}

for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((header, column) => {
    if (!header.dataset.sort) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => sortTable(table, column, header.dataset.sort));
  });
}

const details = document.querySelector(".details");
for (const event of ["pointerover", "click"]) {
  document.querySelector("table.heat")?.addEventListener(event, ({ target }) => {
    const cell = target.closest("td[title]");
    if (!cell) return;
    details.hidden = false;
    details.textContent = cell.title;
  });
}

const lightbox = document.querySelector(".lightbox");
for (const scene of document.querySelectorAll(".scene")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "zoom";
  button.textContent = "Enlarge";
  button.addEventListener("click", () => {
    lightbox.replaceChildren(scene.cloneNode(true));
    lightbox.showModal();
  });
  scene.querySelector(".picture").append(button);
}
lightbox?.addEventListener("click", () => lightbox.close());
