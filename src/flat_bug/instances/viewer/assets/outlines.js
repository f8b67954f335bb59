"use strict";
// Outlines over the image, drawn anew for each frame from the points that the zoom shows.

const SMALLEST_SHAPE = 6; // of the screen's pixels; what is smaller is a dot
const ROUGHNESS = 0.4; // of the screen's pixels, by which an outline may be off
const SHAPES_WITH_HALO = 5000; // more shapes than this are drawn without a halo
const SHAPES_IN_MOTION = 800; // more shapes than this are not drawn anew for each frame while the image moves
const SHAPES_IN_A_PATH = 24;
const CELLS = 64; // along each side of the image, by which animals are brought into an order of neighbours

/** Outlines without the points that a zoom cannot show: no line is off by more than the tolerance, in image pixels. */
class Simplified {
  constructor(animals, tolerance) {
    const { points, pointStarts } = animals;
    const kept = new Float64Array(points.length);
    const marks = new Uint8Array(points.length / 2);
    this.pointStarts = new Int32Array(pointStarts.length);
    let count = 0;
    for (let ring = 0; ring + 1 < pointStarts.length; ring++) {
      const [first, end] = [pointStarts[ring], pointStarts[ring + 1]];
      markCorners(points, first, end - 1, tolerance * tolerance, marks);
      for (let point = first; point < end; point++) {
        if (!marks[point]) continue;
        kept[2 * count] = points[2 * point];
        kept[2 * count + 1] = points[2 * point + 1];
        count++;
      }
      this.pointStarts[ring + 1] = count;
    }
    this.points = kept.slice(0, 2 * count);
  }
}

/** Mark the points of a line that are kept, as Douglas and Peucker choose them; `limit` is the squared tolerance. */
function markCorners(points, first, last, limit, marks) {
  marks[first] = marks[last] = 1;
  const open = [first, last];
  while (open.length) {
    const [to, from] = [open.pop(), open.pop()];
    const [x, y] = [points[2 * from], points[2 * from + 1]];
    const [dx, dy] = [points[2 * to] - x, points[2 * to + 1] - y];
    const length = dx * dx + dy * dy;
    let [farthest, most] = [-1, limit];
    for (let point = from + 1; point < to; point++) {
      const [px, py] = [points[2 * point] - x, points[2 * point + 1] - y];
      const along = length ? Math.min(1, Math.max(0, (px * dx + py * dy) / length)) : 0;
      const [offX, offY] = [px - along * dx, py - along * dy];
      const off = offX * offX + offY * offY;
      if (off > most) [farthest, most] = [point, off];
    }
    if (farthest < 0) continue;
    marks[farthest] = 1;
    open.push(from, farthest, farthest, to);
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
    if (animals !== this.animals) {
      this._levels = new Map();
      this._neighbours = orderOfNeighbours(animals);
    }
    Object.assign(this, { animals, visible, colours });
  }

  /** Move what is drawn to where it belongs now, for as long as the image moves, and return whether that will do. */
  drift(view) {
    if (!this.view || !view || this.drawn < SHAPES_IN_MOTION) return false;
    const by = view.scale / this.view.scale;
    this.canvas.style.transform = `matrix(${by}, 0, 0, ${by}, ${view.x - this.view.x * by}, ${view.y - this.view.y * by})`;
    return true;
  }

  /** Draw what lies in the window: `view` says by `scale`, `x` and `y` where image pixels lie on the screen. */
  draw(view) {
    const { canvas, context } = this;
    canvas.style.transform = "";
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
    this.context.lineJoin = "bevel"; // at this width nobody sees the joins, and round ones take long
    const withHalo = this.drawn < SHAPES_WITH_HALO;
    if (withHalo) for (const shapes of groups.values()) this._stroke(shapes, outlines, "rgb(0 0 0 / .5)", 3.4);
    for (const [colour, shapes] of groups) this._stroke(shapes, outlines, colour, withHalo ? 1.8 : 1.2);
  }

  /** Return the animals in the window by colour; those too small for a shape are drawn as dots at once. */
  _inWindow() {
    const { boxes } = this.animals;
    const { scale, x, y } = this.view;
    const [left, top] = [-x / scale, -y / scale];
    const [right, bottom] = [left + this.canvas.clientWidth / scale, top + this.canvas.clientHeight / scale];
    const smallest = SMALLEST_SHAPE / scale;
    const groups = new Map();
    this.drawn = 0;
    for (const animal of this._neighbours) {
      const at = 4 * animal;
      if (!this.visible[animal] || boxes[at] > right || boxes[at + 1] > bottom || boxes[at + 2] < left || boxes[at + 3] < top) continue;
      const colour = this.colours(animal);
      this.drawn++;
      const [width, height] = [boxes[at + 2] - boxes[at], boxes[at + 3] - boxes[at + 1]];
      if (width < smallest && height < smallest) {
        const [wide, high] = [Math.max(2, Math.round(width * scale)), Math.max(2, Math.round(height * scale))];
        this.context.fillStyle = colour;
        this.context.fillRect(Math.round((boxes[at] + width / 2) * scale + x - wide / 2), Math.round((boxes[at + 1] + height / 2) * scale + y - high / 2), wide, high);
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

  _stroke(shapes, outlines, colour, width) {
    this.context.strokeStyle = colour;
    this.context.lineWidth = width;
    // A few neighbours at a time: a path that reaches across the whole window takes much longer to draw.
    for (let first = 0; first < shapes.length; first += SHAPES_IN_A_PATH) {
      this.context.beginPath();
      const end = Math.min(shapes.length, first + SHAPES_IN_A_PATH);
      for (let index = first; index < end; index++) this._trace(shapes[index], outlines);
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
    context.lineWidth = isSelected ? 5 : 4.2;
    context.stroke();
    context.strokeStyle = "#fff";
    context.lineWidth = isSelected ? 2.6 : 2;
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

/** Return the animals in an order in which those that follow each other lie near each other. */
function orderOfNeighbours(animals) {
  const { boxes, count, width, height } = animals;
  const cells = new Int32Array(count);
  for (let animal = 0; animal < count; animal++) {
    const column = Math.floor(((boxes[4 * animal] + boxes[4 * animal + 2]) / 2 / width) * CELLS);
    const row = Math.floor(((boxes[4 * animal + 1] + boxes[4 * animal + 3]) / 2 / height) * CELLS);
    cells[animal] = row * CELLS + column;
  }
  return Uint32Array.from(cells.keys()).sort((a, b) => cells[a] - cells[b] || a - b);
}
