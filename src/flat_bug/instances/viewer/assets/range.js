"use strict";
// A histogram with two handles: which of the values are wanted.

const BINS = 48;
const STEPS = 1000; // of a handle's way

class RangeFilter {
  /** Filter by a column; `changed` is called at each move of a handle. Sizes are laid out by their logarithm. */
  constructor(column, label, { logarithmic = false, fixed = null, format = formatNumber, changed }) {
    this.column = column;
    this.format = format;
    const known = column.values.filter((value) => value !== null && (!logarithmic || value > 0));
    [this.least, this.most] = fixed ?? [known.reduce((a, b) => Math.min(a, b), Infinity), known.reduce((a, b) => Math.max(a, b), -Infinity)];
    if (!(this.least < this.most)) [this.least, this.most] = known.length ? [this.least * 0.9, this.least * 1.1 + 1e-9] : [0.1, 1];
    this.forward = logarithmic ? Math.log : (value) => value;
    this.backward = logarithmic ? Math.exp : (value) => value;
    this.low = -Infinity;
    this.high = Infinity;
    this.changed = changed;
    this.bins = column.values.map((value) => (value === null ? -1 : Math.min(BINS - 1, Math.max(0, Math.floor(this._share(value) * BINS)))));
    this._build(label);
  }

  accepts(animal) {
    if (this.low === -Infinity && this.high === Infinity) return true;
    const value = this.column.values[animal];
    return value !== null && value >= this.low && value <= this.high;
  }

  get narrowed() {
    return this.low !== -Infinity || this.high !== Infinity;
  }

  reset() {
    this.set(-Infinity, Infinity);
  }

  /** Choose values; infinities stand for no limit. */
  set(low, high) {
    [this.low, this.high] = [low, high];
    this.handles[0].value = Math.round(STEPS * (low === -Infinity ? 0 : this._clipped(low)));
    this.handles[1].value = Math.round(STEPS * (high === Infinity ? 1 : this._clipped(high)));
    this._write();
  }

  /** Draw how many animals there are of each value, and, in front, how many of them are shown. */
  draw(visible) {
    const all = new Array(BINS).fill(0);
    const shown = new Array(BINS).fill(0);
    this.bins.forEach((bin, animal) => {
      if (bin < 0) return;
      all[bin]++;
      shown[bin] += visible[animal];
    });
    const top = Math.max(...all, 1);
    this.bars.forEach(([behind, front], bin) => {
      // By the square root, so that a few animals are seen beside many.
      behind.style.height = `${100 * Math.sqrt(all[bin] / top)}%`;
      front.style.height = `${100 * Math.sqrt(shown[bin] / top)}%`;
    });
  }

  _build(label) {
    const handle = (which) => make("input", {
      type: "range", min: 0, max: STEPS, value: which === "least" ? 0 : STEPS,
      "aria-label": `${label}: ${which}`, oninput: () => this._moved(which),
    });
    const field = (which) => make("input", {
      type: "text", inputMode: "decimal", autocomplete: "off", "aria-label": `${label}: ${which}, as a number`,
      onchange: (event) => this._typed(which, numberOf(event.target.value)),
    });
    this.handles = [handle("least"), handle("most")];
    this.fields = [field("least"), field("most")];
    this.bars = Array.from({ length: BINS }, () => [make("i", { className: "behind" }), make("i", { className: "front" })]);
    this.element = make("fieldset", { className: "range" },
      make("legend", {}, label),
      make("span", { className: "limits" }, this.fields[0], "–", this.fields[1]),
      make("div", { className: "bars", "aria-hidden": "true" }, ...this.bars.map((pair) => make("span", {}, ...pair))),
      make("div", { className: "handles" }, ...this.handles));
    this._write();
  }

  _moved(which) {
    const [low, high] = this.handles.map((handle) => Number(handle.value));
    // A handle that is pushed against the other one takes it along.
    if (low > high) this.handles[which === "least" ? 1 : 0].value = which === "least" ? low : high;
    const [first, last] = this.handles.map((handle) => Number(handle.value));
    this.low = first === 0 ? -Infinity : this._value(first / STEPS);
    this.high = last === STEPS ? Infinity : this._value(last / STEPS);
    this._write();
    this.changed();
  }

  /** Take a number that was typed; the other one stays as it is, and not as it is rounded in its field. */
  _typed(which, number) {
    if (which === "least") this.set(Number.isNaN(number) || number <= this.least ? -Infinity : number, this.high);
    else this.set(this.low, Number.isNaN(number) || number >= this.most ? Infinity : number);
    this.changed();
  }

  _write() {
    const limits = [this.low === -Infinity ? this.least : this.low, this.high === Infinity ? this.most : this.high];
    limits.forEach((limit, index) => {
      this.fields[index].value = this.format(limit);
      this.handles[index].setAttribute("aria-valuetext", this.format(limit));
    });
    this.element.style.setProperty("--low", this.handles[0].value / STEPS);
    this.element.style.setProperty("--high", this.handles[1].value / STEPS);
  }

  _share(value) {
    return (this.forward(value) - this.forward(this.least)) / (this.forward(this.most) - this.forward(this.least));
  }

  _clipped(value) {
    return value > 0 || this.forward(1) === 1 ? Math.min(1, Math.max(0, this._share(value))) : 0;
  }

  _value(share) {
    return this.backward(this.forward(this.least) + share * (this.forward(this.most) - this.forward(this.least)));
  }
}

/** Return the number in a text: commas stand between thousands, as the page writes them, or else for a point. */
function numberOf(text) {
  const plain = /^\s*\d{1,3}(,\d{3})+(\.\d*)?\s*$/.test(text) ? text.replaceAll(",", "") : text.replace(",", ".");
  return Number.parseFloat(plain);
}
