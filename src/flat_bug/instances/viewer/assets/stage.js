"use strict";
// The zoomable image with its outlines, its scale bar, and what the pointer is over.

const STILL = window.matchMedia("(prefers-reduced-motion: reduce)");

class Stage {
  /** `on.pick` is told the animal that was clicked, -1 for none; `on.key` is asked about a key before the image is. */
  constructor(host, on) {
    this.host = host;
    this.on = on;
    this.layer = new OutlineLayer(host.querySelector("canvas.outlines"));
    this.scaleBar = host.querySelector(".scale-bar");
    this.tip = host.querySelector(".tip");
    this.viewer = OpenSeadragon({
      element: host.querySelector(".deep-zoom"),
      drawer: "canvas", // WebGL may not use pictures from a disk
      showNavigationControl: false,
      showNavigator: true,
      navigatorId: "navigator",
      navigatorAutoFade: false,
      animationTime: STILL.matches ? 0 : 0.45,
      springStiffness: 9,
      minZoomImageRatio: 0.7,
      maxZoomPixelRatio: 24,
      visibilityRatio: 0.4,
      zoomPerScroll: 1.25,
      gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
      gestureSettingsTouch: { clickToZoom: false, dblClickToZoom: true, flickEnabled: true, pinchToZoom: true },
      gestureSettingsPen: { clickToZoom: false },
      imageLoaderLimit: 8,
      timeout: 60000,
    });
    this.drawnAt = 0;
    this.redraw = oncePerFrame(() => this._draw());
    this.viewer.addHandler("update-viewport", () => this._follow());
    for (const event of ["animation-finish", "resize", "open"]) this.viewer.addHandler(event, () => this._draw());
    this.viewer.addHandler("canvas-click", (event) => this._click(event));
    this.viewer.addHandler("canvas-key", (event) => {
      // Ours come first; of the viewer's own those that turn or mirror the image are of no use here.
      if (this.on.key(event.originalEvent) || /^[rfj]$/i.test(event.originalEvent.key)) event.preventDefaultAction = true;
    });
    host.addEventListener("pointermove", (event) => this._hover(event));
    host.addEventListener("pointerleave", () => this._setHovered(-1));
    new ResizeObserver(() => this.redraw()).observe(host);
  }

  /** Show an image; `start` is called when it can be looked at. */
  open(animals, start) {
    this.layer.clear();
    this.layer.selected = this.layer.hovered = -1;
    this.animals = animals;
    const { tiles, width, height, slug } = animals;
    this.host.querySelector("#navigator").style.aspectRatio = Math.min(3, Math.max(0.5, width / height));
    this.viewer.addOnceHandler("open", () => {
      this.viewer.navigator.updateSize();
      start();
    });
    this.viewer.open({
      width,
      height,
      tileSize: tiles.side,
      tileOverlap: tiles.overlap,
      minLevel: 0,
      maxLevel: tiles.levels - 1,
      getTileUrl: (level, column, row) => tileAddress(animals, level, column, row),
    });
    this.viewer.canvas.setAttribute("aria-label", `Image ${animals.title}. Arrow keys move it, plus and minus zoom.`);
    this.slug = slug;
  }

  /** Say where image pixels lie on the screen: `scale` of the screen's pixels each, the first one at `x`, `y`. */
  view() {
    if (!this.viewer.world.getItemCount()) return null;
    const { viewport } = this.viewer;
    const origin = viewport.pixelFromPoint(new OpenSeadragon.Point(0, 0), true);
    const right = viewport.pixelFromPoint(new OpenSeadragon.Point(1, 0), true);
    return { scale: (right.x - origin.x) / this.animals.width, x: origin.x, y: origin.y };
  }

  fit() {
    this.viewer.viewport.goHome();
  }

  zoomBy(factor) {
    this.viewer.viewport.zoomBy(factor).applyConstraints();
  }

  select(animal) {
    this.layer.selected = animal;
    this.redraw();
  }

  /** Bring an animal into view, unless it is there already and large enough to be seen. */
  reveal(animal, always = false) {
    const view = this.view();
    if (!view) return;
    const [x1, y1, x2, y2] = this.animals.box(animal);
    const side = Math.max(x2 - x1, y2 - y1, 1);
    const place = [x1 * view.scale + view.x, y1 * view.scale + view.y, x2 * view.scale + view.x, y2 * view.scale + view.y];
    const inside = place[0] > 0 && place[1] > 0 && place[2] < this.host.clientWidth && place[3] < this.host.clientHeight;
    if (!always && inside && side * view.scale > 36) return;
    const { viewport } = this.viewer;
    const zoomed = Math.min(8, (0.3 * Math.min(this.host.clientWidth, this.host.clientHeight)) / side);
    const scale = inside || always || side * view.scale < 36 ? zoomed : view.scale;
    const centre = viewport.imageToViewportCoordinates((x1 + x2) / 2, (y1 + y2) / 2);
    viewport.panTo(centre);
    viewport.zoomTo((scale * this.animals.width) / this.host.clientWidth);
    viewport.applyConstraints();
  }

  /** Keep the outlines on the image: many of them are moved as they are while it moves, and drawn anew twice a second. */
  _follow() {
    const now = performance.now();
    if (this.viewer.isAnimating() && now - this.drawnAt < 500 && this.layer.drift(this.view())) return;
    this._draw();
  }

  _draw() {
    this.drawnAt = performance.now();
    const view = this.view();
    this.layer.draw(view);
    if (!view) return;
    this._drawScaleBar(view.scale);
    const { viewport } = this.viewer;
    this.host.classList.toggle("whole", viewport.getZoom(true) <= viewport.getHomeZoom() * 1.05);
  }

  _drawScaleBar(scale) {
    const { mmPerPx } = this.animals;
    const perUnit = mmPerPx ? scale / mmPerPx : scale;
    const rough = 110 / perUnit;
    const power = 10 ** Math.floor(Math.log10(rough));
    const length = [5, 2, 1].map((digit) => digit * power).find((value) => value <= rough) ?? power;
    this.scaleBar.style.width = `${length * perUnit}px`;
    this.scaleBar.textContent = scaleText(length, mmPerPx);
  }

  _place(event) {
    const frame = this.host.getBoundingClientRect();
    return [event.clientX - frame.left, event.clientY - frame.top];
  }

  _animalAt(x, y, reach) {
    const view = this.view();
    if (!view || !this.layer.shown || !this.layer.animals) return -1;
    return this.layer.find((x - view.x) / view.scale, (y - view.y) / view.scale, reach / view.scale);
  }

  _click(event) {
    if (!event.quick) return;
    const touch = event.originalEvent.pointerType === "touch";
    this.on.pick(this._animalAt(event.position.x, event.position.y, touch ? 8 : 3));
  }

  _hover(event) {
    if (event.pointerType === "touch" || event.buttons || !event.target.closest(".deep-zoom")) return this._setHovered(-1);
    const [x, y] = this._place(event);
    this._setHovered(this._animalAt(x, y, 3), x, y);
    return undefined;
  }

  _setHovered(animal, x = 0, y = 0) {
    this.tip.hidden = animal < 0;
    if (animal >= 0) {
      this.tip.textContent = this.on.describe(animal);
      const left = Math.min(x + 14, this.host.clientWidth - this.tip.offsetWidth - 6);
      this.tip.style.transform = `translate(${left}px, ${Math.max(6, y - 34)}px)`;
    }
    this.host.classList.toggle("over-animal", animal >= 0);
    if (animal === this.layer.hovered) return;
    this.layer.hovered = animal;
    this.redraw();
  }
}

function tileAddress(animals, level, column, row) {
  return `images/${animals.slug}/${animals.tiles.folder}/${level}/${column}_${row}.jpg`;
}

function scaleText(length, inMillimetres) {
  if (!inMillimetres) return `${formatNumber(length)} px`;
  if (length >= 10) return `${formatNumber(length / 10)} cm`;
  return length >= 1 ? `${formatNumber(length)} mm` : `${formatNumber(length * 1000)} µm`;
}
