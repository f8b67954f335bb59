"use strict";
// One image with its animals: brings the stage, the filters, the table and the details together.

class Inspector {
  constructor(host, gallery) {
    this.host = host;
    this.gallery = gallery;
    this.animals = null;
    this.selected = -1;
    this.find = (selector) => host.querySelector(selector);
    this.stage = new Stage(this.find(".stage"), {
      pick: (animal) => this.choose(animal),
      key: (event) => this.key(event),
      describe: (animal) => this._describe(animal),
    });
    this.details = new Details(this.find(".details"));
    this.filters = new Filters(this.find(".ranges"), (visible) => this._filtered(visible));
    this.table = new AnimalTable(this.find(".rows"), {
      pick: (animal) => this.choose(animal, { reveal: true }),
      ordered: () => this._showPlace(),
    });
    this._wire();
  }

  /** Show an image, and one of its animals if `animal` is not -1. */
  async open(slug, animal) {
    this.wanted = slug;
    if (this.animals?.slug === slug) {
      this._showNeighbours(slug);
      this._showTitle();
      if (animal !== this.selected) this._select(animal, { reveal: true });
      return;
    }
    this._showNeighbours(slug);
    let animals;
    try {
      animals = await flatBugData.load(slug);
    } catch (error) {
      if (this.wanted === slug) this.find(".image-name").textContent = error.message;
      return;
    }
    if (this.wanted !== slug) return; // another image was asked for meanwhile
    this.animals = null; // until all parts show the new one
    this.selected = -1;
    this.details.clear();
    this._offerColours(animals);
    this.stage.open(animals, () => this._started(animal));
    this.animals = animals;
    this.table.show(animals);
    this.filters.show(animals);
    const wanted = animal < animals.count ? animal : -1;
    this._select(wanted, { reveal: false });
    this._showTitle();
  }

  /** Choose an animal, or none, and say so in the address. */
  choose(animal, { reveal = false } = {}) {
    if (!this.animals) return;
    this._select(animal, { reveal });
    history.replaceState(null, "", addressOf(this.animals.slug, animal));
  }

  step(by) {
    const next = this.table.neighbour(by);
    if (next >= 0) this.choose(next, { reveal: true });
  }

  /** Go to the image before or after this one, in the order of the list. */
  turn(by) {
    const neighbour = this._neighbour(by);
    if (neighbour) location.hash = `#/${neighbour.slug}`;
  }

  /** Do what a key stands for, and return whether it stands for something. */
  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return false;
    const work = {
      n: () => this.step(1),
      p: () => this.step(-1),
      "]": () => this.turn(1),
      "[": () => this.turn(-1),
      o: () => this._toggleOutlines(),
      z: () => this.selected >= 0 && this.stage.reveal(this.selected, true),
      0: () => this.stage.fit(),
      "+": () => this.stage.zoomBy(1.4),
      "=": () => this.stage.zoomBy(1.4),
      "-": () => this.stage.zoomBy(1 / 1.4),
      Escape: () => (this.selected >= 0 ? this.choose(-1) : (location.hash = "#/")),
    }[event.key];
    if (!work) return false;
    work();
    return true;
  }

  _started(animal) {
    if (!this.animals) return;
    this._paint();
    if (document.activeElement === document.body) this.stage.viewer.canvas.focus({ preventScroll: true });
    if (animal >= 0 && animal < this.animals.count) this.stage.reveal(animal, true);
  }

  _select(animal, { reveal }) {
    this.selected = animal < this.animals.count ? animal : -1;
    this.stage.select(this.selected);
    this.table.select(this.selected);
    if (this.selected < 0) this.details.clear();
    else this.details.show(this.animals, this.selected);
    if (reveal && this.selected >= 0) this.stage.reveal(this.selected);
    this._showPlace();
  }

  _filtered(visible) {
    this.table.filter(visible);
    this._paint();
    const shown = this.table.order.length;
    const all = this.animals.count;
    const text = shown === all ? plural(all, "animal", "animals") : `${shown.toLocaleString("en")} of ${all.toLocaleString("en")}`;
    this.find(".tally").replaceChildren(text, ...(shown === all ? [] : [make("span", { className: "vh" }, " animals")]));
    this.find(".reset").disabled = !this.filters.narrowed;
    this.find(".nobody").hidden = shown > 0;
  }

  _paint() {
    if (!this.animals) return;
    const by = this.find(".colour-by").value;
    this.find(".ramp").hidden = by !== "score";
    this.stage.layer.show(this.animals, this.filters.visible, colouring(this.animals, by));
    this.stage.redraw();
  }

  _describe(animal) {
    const size = this.animals.sizeColumn();
    const name = this.animals.classNames.length > 1 ? `${this.animals.className(animal)} · ` : "";
    return `${name}score ${formatScore(this.animals.column("score").values[animal])} · ${formatNumber(size.values[animal])} ${size.unit}`;
  }

  _offerColours(animals) {
    const choice = this.find(".colour-by");
    choice.querySelector("option[value=class]").hidden = animals.classNames.length < 2;
    if (choice.value === "class" && animals.classNames.length < 2) choice.value = "plain";
  }

  _toggleOutlines() {
    const box = this.find(".with-outlines");
    box.checked = !box.checked;
    box.dispatchEvent(new Event("change"));
  }

  _neighbour(by, slug = this.animals?.slug) {
    const { listed } = this.gallery;
    return listed[listed.findIndex((image) => image.slug === slug) + by];
  }

  _showNeighbours(slug) {
    const { listed } = this.gallery;
    const place = listed.findIndex((image) => image.slug === slug);
    this.find(".image-place").textContent = place < 0 ? "" : `${place + 1} / ${listed.length}`;
    this.find(".image-before").disabled = !this._neighbour(-1, slug) || place < 0;
    this.find(".image-after").disabled = !this._neighbour(1, slug) || place < 0;
  }

  _showTitle() {
    this.find(".image-name").textContent = this.animals.title;
    document.title = `${this.animals.title} · flat-bug`;
  }

  _showPlace() {
    const place = this.table.order.indexOf(this.selected);
    const count = this.table.order.length;
    this.find(".animal-before").disabled = !count || place === 0;
    this.find(".animal-after").disabled = !count || place === count - 1;
    this.find(".copy-link").disabled = this.selected < 0;
    this.find(".zoom-to").disabled = this.selected < 0;
  }

  _wire() {
    this.find(".ramp i").style.background = `linear-gradient(to right, ${SCORE_COLOURS.join(", ")})`;
    const clicks = {
      ".image-before": () => this.turn(-1),
      ".image-after": () => this.turn(1),
      ".animal-before": () => this.step(-1),
      ".animal-after": () => this.step(1),
      ".zoom-in": () => this.stage.zoomBy(1.6),
      ".zoom-out": () => this.stage.zoomBy(1 / 1.6),
      ".fit": () => this.stage.fit(),
      ".zoom-to": () => this.stage.reveal(this.selected, true),
      ".reset": () => this.filters.reset(),
      ".save-csv": () => saveText(`${this.animals.slug}-animals.csv`, csvOf(this.animals, this.table.order)),
      ".copy-link": () => copyText(new URL(addressOf(this.animals.slug, this.selected), location.href).href).then(() => say("Link copied")),
    };
    for (const [selector, work] of Object.entries(clicks)) this.find(selector).addEventListener("click", () => this.animals && work());
    this.find(".colour-by").addEventListener("change", () => this._paint());
    this.find(".with-outlines").addEventListener("change", (event) => {
      this.stage.layer.shown = event.target.checked;
      this.stage.redraw();
    });
  }
}

function addressOf(slug, animal) {
  return animal < 0 ? `#/${slug}` : `#/${slug}/${animal}`;
}

/** Return the animals of a list as CSV, with every number that is known of them. */
function csvOf(animals, order) {
  const numbers = animals.columns.flatMap(({ key, values, deviations }) => (deviations ? [[key, values], [`${key}_sd`, deviations]] : [[key, values]]));
  const heading = ["image", "animal", "class", "x1", "y1", "x2", "y2", ...numbers.map(([key]) => csvText(key))];
  const rows = order.map((animal) => [
    csvText(animals.title), animal, csvText(animals.className(animal)), ...animals.box(animal),
    ...numbers.map(([, values]) => values[animal] ?? ""),
  ]);
  return `${[heading, ...rows].map((row) => row.join(",")).join("\r\n")}\r\n`;
}
