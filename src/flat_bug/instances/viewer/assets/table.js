"use strict";
// The animals as a table that stays quick with any number of them: only the rows in sight are there.

const ROW_HEIGHT = 30;
const SPARE_ROWS = 8;

class AnimalTable {
  constructor(host, on) {
    this.host = host; // scrolls
    this.on = on;
    this.sort = { key: "score", rising: false };
    this.order = [];
    this.selected = -1;
    this._refill = oncePerFrame(() => this._fill());
    host.addEventListener("scroll", this._refill);
    host.addEventListener("click", (event) => {
      const row = event.target.closest("tr[data-animal]");
      if (row) on.pick(Number(row.dataset.animal));
    });
    host.addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10 }[event.key];
      if (!step) return;
      event.preventDefault();
      on.pick(this.neighbour(step));
    });
    new ResizeObserver(this._refill).observe(host);
  }

  show(animals) {
    this.animals = animals;
    this.selected = -1;
    const hasClasses = new Set(animals.classes).size > 1;
    this.columns = [
      { key: "animal", label: "#", unit: "", values: animals.classes.map((_, animal) => animal), text: String },
      ...animals.columns.slice(0, 1),
      ...(hasClasses ? [{ key: "class", label: "Class", unit: "", values: animals.classes, text: (index) => animals.classNames[index] ?? String(index) }] : []),
      ...animals.columns.slice(1),
    ];
    if (!this.columns.some((column) => column.key === this.sort.key)) this.sort = { key: "score", rising: false };
    this.body = make("tbody");
    this.table = make("table", { className: "animals", "aria-label": "Animals" },
      make("thead", {}, make("tr", {}, ...this.columns.map((column) => this._heading(column)))), this.body);
    this.host.replaceChildren(this.table);
    this.host.scrollTop = 0;
  }

  /** Show those animals that pass the filters. */
  filter(visible) {
    this.visible = visible;
    this._sortRows();
  }

  select(animal) {
    this.selected = animal;
    const place = this.order.indexOf(animal);
    if (place >= 0) {
      const [top, room] = [place * ROW_HEIGHT, this.host.clientHeight - 2 * ROW_HEIGHT];
      if (top < this.host.scrollTop || top > this.host.scrollTop + room) this.host.scrollTop = Math.max(0, top - room / 2);
    }
    this._fill();
  }

  /** Return the animal so many rows further, from the first or last one if none is selected. */
  neighbour(step) {
    const place = this.order.indexOf(this.selected);
    if (!this.order.length) return -1;
    if (place < 0) return this.order[step > 0 ? 0 : this.order.length - 1];
    return this.order[Math.min(this.order.length - 1, Math.max(0, place + step))];
  }

  _heading(column) {
    const button = make("button", { type: "button", onclick: () => this._sortBy(column.key) }, headingOf(column));
    const heading = make("th", { scope: "col" }, button);
    heading.dataset.key = column.key;
    return heading;
  }

  _sortBy(key) {
    const rising = this.sort.key === key ? !this.sort.rising : key === "animal" || key === "class";
    this.sort = { key, rising };
    this.host.scrollTop = 0;
    this._sortRows();
  }

  _sortRows() {
    const { key, rising } = this.sort;
    const { values } = this.columns.find((column) => column.key === key);
    const sign = rising ? 1 : -1;
    this.order = values.map((_, animal) => animal).filter((animal) => this.visible[animal]);
    this.order.sort((a, b) => {
      const [x, y] = [values[a], values[b]];
      if (x === null || y === null) return (x === null) - (y === null) || a - b; // what is not known comes last
      return sign * (x - y) || a - b;
    });
    for (const heading of this.table.tHead.rows[0].cells) {
      if (heading.dataset.key === key) heading.setAttribute("aria-sort", rising ? "ascending" : "descending");
      else heading.removeAttribute("aria-sort");
    }
    this.table.setAttribute("aria-rowcount", this.order.length + 1);
    this._fill();
    this.on.ordered();
  }

  _fill() {
    if (!this.body) return;
    const first = Math.max(0, Math.floor(this.host.scrollTop / ROW_HEIGHT) - SPARE_ROWS);
    const last = Math.min(this.order.length, first + Math.ceil(this.host.clientHeight / ROW_HEIGHT) + 2 * SPARE_ROWS);
    const rows = this.order.slice(first, last).map((animal, index) => this._row(animal, first + index));
    this.body.replaceChildren(spacer(first), ...rows, spacer(this.order.length - last));
  }

  _row(animal, place) {
    const row = make("tr", { "aria-rowindex": place + 2, "aria-current": animal === this.selected },
      ...this.columns.map((column) => make("td", {}, (column.text ?? ((value) => formatCell(column, value)))(column.values[animal]))));
    row.dataset.animal = animal;
    return row;
  }
}

function spacer(rows) {
  const row = make("tr", { "aria-hidden": "true", className: "spacer" });
  row.style.height = `${Math.max(0, rows) * ROW_HEIGHT}px`;
  return row;
}
