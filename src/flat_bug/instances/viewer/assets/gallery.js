"use strict";
// All images, to be searched and sorted.

const ORDERS = {
  name: (a, b) => a.title.localeCompare(b.title, "en", { numeric: true }),
  most: (a, b) => b.count - a.count,
  fewest: (a, b) => a.count - b.count,
  largest: (a, b) => (b.median ?? -1) - (a.median ?? -1),
  size: (a, b) => b.width * b.height - a.width * a.height,
};

class Gallery {
  constructor(host) {
    this.host = host;
    this.grid = host.querySelector(".cards");
    this.search = host.querySelector("input[type=search]");
    this.order = host.querySelector("select");
    this.count = host.querySelector(".shown");
    this.listed = [];
    this._cards = new Map();
    this.search.addEventListener("input", () => this.update());
    this.order.addEventListener("change", () => this.update());
  }

  /** Write the head of the page, once the list is there. */
  start() {
    const { images, title } = flatBugData;
    const animals = images.reduce((sum, image) => sum + image.count, 0);
    const without = images.filter((image) => image.count === 0).length;
    this.host.querySelector("h1").textContent = title;
    this.host.querySelector(".sum").replaceChildren(
      make("strong", {}, animals.toLocaleString("en")), ` ${animals === 1 ? "animal" : "animals"} in `,
      make("strong", {}, images.length.toLocaleString("en")), ` ${images.length === 1 ? "image" : "images"}`,
      ...(without ? [`, ${without.toLocaleString("en")} of them without any`] : []));
    this.update();
  }

  /** Show the images whose name holds all words that are searched for. */
  update() {
    const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    this.listed = flatBugData.images.filter((image) => words.every((word) => image.title.toLowerCase().includes(word)));
    this.listed.sort(ORDERS[this.order.value]);
    this.grid.replaceChildren(...this.listed.map((image) => this._card(image)));
    const all = flatBugData.images.length;
    this.count.textContent = this.listed.length === all ? plural(all, "image", "images") : `${this.listed.length.toLocaleString("en")} of ${plural(all, "image", "images")}`;
    this.host.querySelector(".none").hidden = this.listed.length > 0;
  }

  _card(image) {
    if (!this._cards.has(image.slug)) this._cards.set(image.slug, card(image));
    return this._cards.get(image.slug);
  }
}

function card(image) {
  const megapixels = (image.width * image.height) / 1e6;
  // An image of an unusual shape is shown whole; others may lose a little of two sides to fill the frame.
  const odd = image.width / image.height < 1 || image.width / image.height > 1.8;
  const facts = [`${image.width.toLocaleString("en")} × ${image.height.toLocaleString("en")} px`];
  if (image.median !== null) facts.push(`median ${medianText(image)}`);
  return make("li", {},
    make("a", { href: `#/${image.slug}`, title: `${image.title}: ${plural(image.count, "animal", "animals")}, ${formatNumber(megapixels)} megapixels` },
      make("span", { className: "frame" }, make("img", { src: `images/${image.slug}/${image.thumbnail}`, alt: "", className: odd ? "odd" : "", loading: "lazy", decoding: "async" }),
        make("span", { className: "count" }, image.count.toLocaleString("en"), make("span", { className: "vh" }, image.count === 1 ? " animal" : " animals"))),
      make("span", { className: "name" }, image.title),
      make("span", { className: "facts" }, facts.join(" · "))));
}

/** Return the median area as text, in square millimetres where the scale is known. */
function medianText(image) {
  return image.mm_per_px === null ? `${formatNumber(image.median)} px²` : `${formatNumber(image.median * image.mm_per_px ** 2)} mm²`;
}
