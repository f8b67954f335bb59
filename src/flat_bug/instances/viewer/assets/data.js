"use strict";
// What the scripts beside the page hold: the list of images, and the animals of the images that are looked at.

/** The animals of one image: columns of numbers, and outlines in image pixels. */
class Animals {
  constructor(values) {
    Object.assign(this, {
      slug: values.slug,
      title: values.title,
      width: values.width,
      height: values.height,
      mmPerPx: values.mmPerPx,
      tiles: values.tiles,
      model: values.model,
      classNames: values.classNames,
      classes: values.classes,
      columns: values.columns,
      count: values.rings.length,
    });
    this.boxes = Float64Array.from(values.boxes, (value) => value / 100);
    this.ringStarts = startsOf(values.rings); // the rings of animal i are ringStarts[i] up to ringStarts[i + 1]
    this.pointStarts = startsOf(values.sizes); // the points of ring r are pointStarts[r] up to pointStarts[r + 1]
    this.points = pointsOf(values.steps); // x and y in turn
  }

  /** Return x1, y1, x2, y2 of an animal in image pixels. */
  box(animal) {
    return this.boxes.subarray(4 * animal, 4 * animal + 4);
  }

  column(key) {
    return this.columns.find((column) => column.key === key);
  }

  /** Return the column by which animals are filtered by size: the length where it was measured, or else the area. */
  sizeColumn() {
    const wanted = ["length_mm", "length_px", "body_length_mm", "body_length_px", "area_mm2", "area_px2"];
    return wanted.map((key) => this.column(key)).find(Boolean);
  }

  className(animal) {
    return this.classNames[this.classes[animal]] ?? String(this.classes[animal]);
  }
}

function startsOf(counts) {
  const starts = new Int32Array(counts.length + 1);
  counts.forEach((count, index) => { starts[index + 1] = starts[index] + count; });
  return starts;
}

function pointsOf(steps) {
  const points = new Float64Array(steps.length);
  let [x, y] = [0, 0];
  for (let index = 0; index < steps.length; index += 2) {
    x += steps[index];
    y += steps[index + 1];
    points[index] = x / 100;
    points[index + 1] = y / 100;
  }
  return points;
}

/** Receives the data scripts, which call `list` and `image`, and loads those of an image when it is looked at. */
const flatBugData = {
  title: "",
  images: [],
  _kept: new Map(), // the last images that were looked at
  _received: null,

  list(values) {
    this.title = values.title;
    this.images = values.images;
  },

  image(values) {
    this._received = values;
  },

  /** Return the animals of an image. A page from a disk may load a script, but no other file. */
  load(slug) {
    if (this._kept.has(slug)) return Promise.resolve(this._kept.get(slug));
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = `images/${slug}/animals.js`;
      script.addEventListener("load", () => {
        script.remove();
        resolve(this._keep(slug, new Animals(this._received)));
      });
      script.addEventListener("error", () => {
        script.remove();
        reject(new Error("The file of this image is missing. Was the folder copied as a whole?"));
      });
      document.head.append(script);
    });
  },

  _keep(slug, animals) {
    this._kept.set(slug, animals);
    if (this._kept.size > 4) this._kept.delete(this._kept.keys().next().value);
    return animals;
  },
};
