"use strict";
// Outlines over the image, drawn anew for each frame from the points that the zoom shows.

const SMALLEST_SHAPE = 3; // of the screen's pixels; what is smaller is a dot
const ROUGHNESS = 0.3; // of the screen's pixels, by which an outline may be off
const POINTS_WITH_HALO = 60000; // more points than this are drawn without a halo, to stay fluent

/** Outlines with the points left out that a zoom cannot show. */
class Simplified {
  constructor(animals, tolerance) {
    const { points, pointStarts } = animals;
    const kept = new Float64Array(points.length);
    this.pointStarts = new Int32Array(pointStarts.length);
    let count = 0;
    for (let ring = 0; ring + 1 < pointStarts.length; ring++) {
      const [first, end] = [pointStarts[ring], pointStarts[ring + 1]];
      let [lastX, lastY] = [Infinity, Infinity];
      for (let point = first; point < end; point++) {
        const [x, y] = [points[2 * point], points[2 * point + 1]];
        if (Math.abs(x - lastX) < tolerance && Math.abs(y - lastY) < tolerance) continue;
        kept[2 * count] = lastX = x;
        kept[2 * count + 1] = lastY = y;
        count++;
      }
      this.pointStarts[ring + 1] = count;
    }
    this.points = kept.slice(0, 2 * count);
  }
}

class OutlineLayer {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.shown = true;
    this.selected = this.hovered = -1;
    this.clear();
  }

  clear() {
    this.animals = null;
    this._levels = new Map();
    this.context.clearRect(0, 0, this.canvas.width, this.canvas.height);
  }

  /** Show other animals; `visible` has a 1 for each that is drawn, `colours` a colour for each. */
  show(animals, visible, colours) {
    if (animals !== this.animals) this._levels = new Map();
    Object.assign(this, { animals, visible, colours });
  }

  /** Draw what lies in the window: `view` says by `scale`, `x` and `y` where image pixels lie on the screen. */
  draw(view) {
    const { canvas, context } = this;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight);
    if (!this.animals || !view) return;
    this.view = view;
    if (this.shown) this._drawAll();
    this._drawMarked(this.hovered, false);
    this._drawMarked(this.selected, true);
  }

  /** Return the animal at a place in image pixels, the smallest of several; -1 where there is none. */
  find(x, y, reach) {
    const { boxes, count } = this.animals;
    let [best, bestSize] = [-1, Infinity];
    for (let animal = 0; animal < count; animal++) {
      if (!this.visible[animal]) continue;
      const at = 4 * animal;
      if (x < boxes[at] - reach || y < boxes[at + 1] - reach || x > boxes[at + 2] + reach || y > boxes[at + 3] + reach) continue;
      const size = (boxes[at + 2] - boxes[at]) * (boxes[at + 3] - boxes[at + 1]);
      const tiny = boxes[at + 2] - boxes[at] < 4 * reach && boxes[at + 3] - boxes[at + 1] < 4 * reach;
      if (size < bestSize && (tiny || this._holds(animal, x, y))) [best, bestSize] = [animal, size];
    }
    return best;
  }

  _holds(animal, x, y) {
    const { points, pointStarts, ringStarts } = this.animals;
    let inside = false;
    for (let ring = ringStarts[animal]; ring < ringStarts[animal + 1]; ring++) {
      const [first, end] = [pointStarts[ring], pointStarts[ring + 1]];
      for (let point = first, before = end - 1; point < end; before = point++) {
        const [y1, y2] = [points[2 * point + 1], points[2 * before + 1]];
        if (y1 > y === y2 > y) continue;
        const [x1, x2] = [points[2 * point], points[2 * before]];
        if (x < ((x2 - x1) * (y - y1)) / (y2 - y1) + x1) inside = !inside;
      }
    }
    return inside;
  }

  _drawAll() {
    const groups = this._inWindow();
    const outlines = this._level();
    const points = [...groups.values()].flat().length && this._pointsOf(groups, outlines);
    this.context.lineJoin = "round";
    if (points < POINTS_WITH_HALO) {
      for (const shapes of groups.values()) this._stroke(shapes, outlines, "rgb(0 0 0 / .5)", 3.4);
    }
    for (const [colour, shapes] of groups) this._stroke(shapes, outlines, colour, points < POINTS_WITH_HALO ? 1.8 : 1.2);
  }

  /** Return the animals in the window by colour; those too small for a shape are drawn as dots at once. */
  _inWindow() {
    const { boxes, count } = this.animals;
    const { scale, x, y } = this.view;
    const [left, top] = [-x / scale, -y / scale];
    const [right, bottom] = [left + this.canvas.clientWidth / scale, top + this.canvas.clientHeight / scale];
    const smallest = SMALLEST_SHAPE / scale;
    const groups = new Map();
    for (let animal = 0; animal < count; animal++) {
      const at = 4 * animal;
      if (!this.visible[animal] || boxes[at] > right || boxes[at + 1] > bottom || boxes[at + 2] < left || boxes[at + 3] < top) continue;
      const colour = this.colours(animal);
      if (boxes[at + 2] - boxes[at] < smallest && boxes[at + 3] - boxes[at + 1] < smallest) {
        this.context.fillStyle = colour;
        const [middleX, middleY] = [(boxes[at] + boxes[at + 2]) / 2, (boxes[at + 1] + boxes[at + 3]) / 2];
        this.context.fillRect(middleX * scale + x - 1.5, middleY * scale + y - 1.5, 3, 3);
      } else if (groups.has(colour)) groups.get(colour).push(animal);
      else groups.set(colour, [animal]);
    }
    return groups;
  }

  _level() {
    const level = Math.floor(Math.log2(ROUGHNESS / this.view.scale));
    if (level < -3) return this.animals;
    if (!this._levels.has(level)) this._levels.set(level, new Simplified(this.animals, 2 ** level));
    return this._levels.get(level);
  }

  _pointsOf(groups, outlines) {
    const { ringStarts } = this.animals;
    let points = 0;
    for (const shapes of groups.values()) {
      for (const animal of shapes) points += outlines.pointStarts[ringStarts[animal + 1]] - outlines.pointStarts[ringStarts[animal]];
    }
    return points;
  }

  _stroke(shapes, outlines, colour, width) {
    this.context.strokeStyle = colour;
    this.context.lineWidth = width;
    // One long path is slower to draw than some short ones.
    for (let first = 0; first < shapes.length; first += 200) {
      this.context.beginPath();
      for (const animal of shapes.slice(first, first + 200)) this._trace(animal, outlines);
      this.context.stroke();
    }
  }

  _trace(animal, outlines) {
    const { context } = this;
    const { scale, x, y } = this.view;
    const { ringStarts } = this.animals;
    const { points, pointStarts } = outlines;
    for (let ring = ringStarts[animal]; ring < ringStarts[animal + 1]; ring++) {
      const end = pointStarts[ring + 1];
      for (let point = pointStarts[ring]; point < end; point++) {
        const [atX, atY] = [points[2 * point] * scale + x, points[2 * point + 1] * scale + y];
        if (point === pointStarts[ring]) context.moveTo(atX, atY);
        else context.lineTo(atX, atY);
      }
      context.closePath();
    }
  }

  _drawMarked(animal, isSelected) {
    if (animal < 0 || animal >= this.animals.count) return;
    const { context } = this;
    context.beginPath();
    this._trace(animal, this._level());
    context.fillStyle = isSelected ? "rgb(255 255 255 / .12)" : "rgb(255 255 255 / .22)";
    context.fill("evenodd");
    context.strokeStyle = "rgb(0 0 0 / .75)";
    context.lineWidth = isSelected ? 6 : 4.6;
    context.stroke();
    context.strokeStyle = "#fff";
    context.lineWidth = isSelected ? 3.2 : 2.2;
    context.stroke();
    if (isSelected) this._frame(animal);
  }

  /** Mark the selected animal by a frame that is seen at any zoom. */
  _frame(animal) {
    const { scale, x, y } = this.view;
    const box = this.animals.box(animal);
    const [left, top] = [box[0] * scale + x - 7, box[1] * scale + y - 7];
    const [width, height] = [(box[2] - box[0]) * scale + 14, (box[3] - box[1]) * scale + 14];
    for (const [colour, line] of [["rgb(0 0 0 / .7)", 3.5], ["#fff", 1.5]]) {
      this.context.strokeStyle = colour;
      this.context.lineWidth = line;
      this.context.strokeRect(left, top, width, height);
    }
  }
}
