"use strict";
// Which animals are wanted: by score, by size, and by class where there are several.

class Filters {
  constructor(host, changed) {
    this.host = host;
    this.changed = changed;
    this.ranges = [];
    this.limits = new Map(); // kept from image to image
    this.hiddenClasses = new Set();
  }

  /** Offer the filters of other animals; what was chosen before stays chosen. */
  show(animals) {
    this.animals = animals;
    this.visible = new Uint8Array(animals.count);
    const size = animals.sizeColumn();
    const changed = () => this._apply();
    this.ranges = [
      new RangeFilter(animals.column("score"), "Score", { fixed: [0, 1], format: formatScore, changed }),
      new RangeFilter(size, headingOf(size), { logarithmic: true, changed }),
    ];
    for (const range of this.ranges) range.set(...(this.limits.get(range.column.key) ?? [-Infinity, Infinity]));
    this.host.replaceChildren(...this.ranges.map((range) => range.element), ...this._classes());
    this._apply();
  }

  get narrowed() {
    return this.ranges.some((range) => range.narrowed) || this._present().some((name) => this.hiddenClasses.has(name));
  }

  reset() {
    for (const range of this.ranges) range.reset();
    this.hiddenClasses.clear();
    for (const box of this.host.querySelectorAll(".classes input")) box.checked = true;
    this._apply();
  }

  _present() {
    return [...new Set(this.animals.classes)].sort((a, b) => a - b).map((index) => this.animals.classNames[index] ?? String(index));
  }

  _classes() {
    const names = this._present();
    if (names.length < 2) return [];
    const choices = names.map((name) => make("label", {},
      make("input", { type: "checkbox", checked: !this.hiddenClasses.has(name), onchange: (event) => this._toggle(name, event.target.checked) }),
      make("span", { className: "swatch", style: `background: ${classColour(this.animals, name)}` }), name));
    return [make("fieldset", { className: "classes" }, make("legend", {}, "Class"), ...choices)];
  }

  _toggle(name, isShown) {
    if (isShown) this.hiddenClasses.delete(name);
    else this.hiddenClasses.add(name);
    this._apply();
  }

  _apply() {
    const { animals, visible, ranges } = this;
    for (const range of ranges) this.limits.set(range.column.key, [range.low, range.high]);
    for (let animal = 0; animal < animals.count; animal++) {
      const wanted = ranges.every((range) => range.accepts(animal)) && !this.hiddenClasses.has(animals.className(animal));
      visible[animal] = wanted ? 1 : 0;
    }
    for (const range of ranges) range.draw(visible);
    this.changed(visible);
  }
}

// Colours of Okabe and Ito, which people with any colour vision tell apart.
const CLASS_COLOURS = ["#e69f00", "#56b4e9", "#009e73", "#f0e442", "#cc79a7", "#d55e00", "#0072b2", "#ffffff"];
const PLAIN_COLOUR = "#ffb000";
// From blue to yellow, as bright as its score for every eye, and never as grey as the ground.
const SCORE_COLOURS = ["#4f7cff", "#8a63f0", "#b94fd6", "#dd4aa8", "#f2607a", "#fb8552", "#fdb02f", "#f8e621"];

function classColour(animals, name) {
  return CLASS_COLOURS[Math.max(0, animals.classNames.indexOf(name)) % CLASS_COLOURS.length];
}

/** Return a function from an animal to its colour. */
function colouring(animals, by) {
  if (by === "class") return (animal) => classColour(animals, animals.className(animal));
  const scores = animals.column("score").values;
  if (by === "score") return (animal) => SCORE_COLOURS[Math.min(7, Math.max(0, Math.floor(scores[animal] * 8)))];
  return () => PLAIN_COLOUR;
}
