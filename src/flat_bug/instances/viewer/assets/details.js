"use strict";
// One animal: its picture, put together from the tiles, and its numbers.

const MARGIN = 0.12; // of the longer side, around the box
const LARGEST_CROP = 900; // of a side, in pixels that are read

class Details {
  constructor(host) {
    this.picture = host.querySelector("canvas");
    this.title = host.querySelector("h2");
    this.numbers = host.querySelector("dl");
    this.host = host;
    this._turn = 0;
  }

  clear() {
    this._turn++;
    this.host.classList.add("nothing");
    this.title.textContent = "No animal chosen";
    this.numbers.replaceChildren();
    this.picture.getContext("2d").clearRect(0, 0, this.picture.width, this.picture.height);
    this.picture.setAttribute("aria-label", "");
  }

  show(animals, animal) {
    this.host.classList.remove("nothing");
    this.title.textContent = `Animal ${animal}`;
    const named = [["Class", animals.className(animal)]];
    const numbers = animals.columns.map((column) => [headingOf(column), measured(column, animal)]);
    const [x1, y1, x2, y2] = animals.box(animal);
    const box = [["x (px)", between(x1, x2)], ["y (px)", between(y1, y2)]];
    const rows = [...(animals.classNames.length > 1 ? named : []), ...numbers, ...box];
    this.numbers.replaceChildren(...rows.map(([name, text]) => make("div", {}, make("dt", {}, name), make("dd", {}, text))));
    this.picture.setAttribute("aria-label", `Picture of animal ${animal}`);
    this._draw(animals, animal);
  }

  /** Draw the crop from the tiles of the level that is large enough; they come from the disk one by one. */
  async _draw(animals, animal) {
    const turn = ++this._turn;
    const frame = frameOf(animals, animal);
    const [width, height] = [frame.right - frame.left, frame.bottom - frame.top];
    const reduction = Math.max(0, Math.ceil(Math.log2(Math.max(width, height) / LARGEST_CROP)));
    const level = Math.max(0, animals.tiles.levels - 1 - reduction);
    const scale = 2 ** (level - animals.tiles.levels + 1);
    const drawn = document.createElement("canvas");
    Object.assign(drawn, { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) });
    const context = drawn.getContext("2d");
    const { side, overlap } = animals.tiles;
    const [firstColumn, firstRow] = [Math.floor((frame.left * scale) / side), Math.floor((frame.top * scale) / side)];
    const [lastColumn, lastRow] = [Math.floor((frame.right * scale - 0.01) / side), Math.floor((frame.bottom * scale - 0.01) / side)];
    const tiles = [];
    for (let column = firstColumn; column <= lastColumn; column++) {
      for (let row = firstRow; row <= lastRow; row++) tiles.push([column, row]);
    }
    await Promise.all(tiles.map(async ([column, row]) => {
      const tile = await loadedPicture(tileAddress(animals, level, column, row));
      if (!tile) return;
      const [x, y] = [column * side - (column ? overlap : 0), row * side - (row ? overlap : 0)];
      context.drawImage(tile, x - frame.left * scale, y - frame.top * scale);
    }));
    if (turn !== this._turn) return; // another one was chosen meanwhile
    Object.assign(this.picture, { width: drawn.width, height: drawn.height });
    this.picture.getContext("2d").drawImage(drawn, 0, 0);
    this.picture.classList.toggle("coarse", Math.max(drawn.width, drawn.height) < 90);
    this.host.dispatchEvent(new CustomEvent("cropped", { bubbles: true }));
  }
}

/** Return the box of an animal with a margin, in whole pixels of the image. */
function frameOf(animals, animal) {
  const [x1, y1, x2, y2] = animals.box(animal);
  const margin = Math.max(4, MARGIN * Math.max(x2 - x1, y2 - y1));
  const left = Math.min(animals.width - 1, Math.max(0, Math.floor(x1 - margin)));
  const top = Math.min(animals.height - 1, Math.max(0, Math.floor(y1 - margin)));
  return {
    left,
    top,
    right: Math.max(left + 1, Math.min(animals.width, Math.ceil(x2 + margin))),
    bottom: Math.max(top + 1, Math.min(animals.height, Math.ceil(y2 + margin))),
  };
}

/** Return a value with how far it may be off, where that is known. */
function measured(column, animal) {
  const value = formatCell(column, column.values[animal]);
  const deviation = column.deviations?.[animal] ?? null;
  return deviation === null || column.values[animal] === null ? value : `${value} ± ${Number(deviation.toPrecision(2))}`;
}

function between(low, high) {
  return `${low.toFixed(1)} – ${high.toFixed(1)}`;
}

function loadedPicture(address) {
  return new Promise((resolve) => {
    const picture = new Image();
    picture.addEventListener("load", () => resolve(picture));
    picture.addEventListener("error", () => resolve(null));
    picture.src = address;
  });
}
