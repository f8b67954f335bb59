"""One synthetic image: animals posed, placed and occluded, painted over their ground, taken by a camera."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy import ndimage

from flat_bug.datasets.synthetic.litter import LITTER
from flat_bug.datasets.synthetic.raster import Light, Picture, paint, smooth_noise
from flat_bug.datasets.synthetic.sceneries import PLANS, Camera, Scenery
from flat_bug.datasets.synthetic.shapes import Figure, Points, polygons_of

ATTEMPTS = 12
LEAST_VISIBLE = 0.45
"""An animal is not covered, nor cut by the image's edge, below this share of its area."""


@dataclass(frozen=True)
class Animal:
    """A drawn animal and what can be seen of it.

    Args:
        plan: Name of its body plan.
        visible: Polygon or MultiPolygon in image pixels: not hidden by what lies on top, inside the image.
        whole_area: Its area in square pixels if nothing were hidden.
    """

    plan: str
    visible: Any
    whole_area: float


@dataclass(frozen=True)
class Scene:
    """A finished image and its animals.

    Args:
        pixels: ``(height, width, 3)`` uint8.
        animals: In painting order.
        quality: JPEG quality that its camera would use.
    """

    pixels: NDArray[np.uint8]
    animals: tuple[Animal, ...]
    quality: int


def draw_scene(scenery: Scenery, rng: np.random.Generator, width: int, height: int, *, empty: bool = False) -> Scene:
    """Draw one image of a scenery; ``empty`` leaves out the animals."""
    ground = scenery.ground(rng, height, width)
    light = Light(rng.uniform(0, 2 * np.pi), rng.uniform(*scenery.shadow), rng.uniform(0.02, 0.08))
    megapixels = width * height / 1e6
    wanted = 0 if empty else max(1, round(megapixels * _between(rng, *scenery.per_megapixel)))
    pieces = round(megapixels * rng.uniform(*scenery.litter_per_megapixel))
    stack = _Stack(rng, scenery, ground.region, shapely.box(0, 0, width, height))
    below = [stack.litter() for _ in range(round(0.9 * pieces))]
    wardrobe = "pale" if ground.dark else _pick(rng, scenery.wardrobes)
    zoom = float(np.exp(0.3 * rng.normal()))
    for _ in range(wanted):
        stack.add_animal(wardrobe, zoom)
    for _ in range(round(0.02 * pieces)):
        stack.add_litter()
    paint(ground.picture, below, light)
    paint(ground.picture, stack.figures, light)
    pixels = take_picture(ground.picture, scenery.camera, rng)
    return Scene(pixels, stack.animals(), int(rng.integers(*scenery.camera.quality, endpoint=True)))


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    """Return a number between two, each order of magnitude equally likely."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _pick(rng: np.random.Generator, weights: Any) -> str:
    names, chances = list(weights), np.array(list(weights.values()), dtype=np.float64)
    return str(names[rng.choice(len(names), p=chances / chances.sum())])


def _size(
    rng: np.random.Generator, distribution: tuple[float, float, float, float], zoom: float, limit: float
) -> float:
    median, spread, smallest, largest = distribution
    largest = max(smallest, min(largest, limit))
    return float(np.clip(zoom * median * np.exp(spread * rng.normal()), smallest, largest))


@dataclass
class _Stack:
    """What has been put down so far, and what is still visible of it."""

    rng: np.random.Generator
    scenery: Scenery
    region: Any
    frame: Any
    figures: list[Figure] = field(default_factory=list)
    plans: list[str | None] = field(default_factory=list)
    visible: list[Any] = field(default_factory=list)
    whole_areas: list[float] = field(default_factory=list)

    def animals(self) -> tuple[Animal, ...]:
        rows = zip(self.plans, self.visible, self.whole_areas, strict=True)
        return tuple(Animal(plan, visible, area) for plan, visible, area in rows if plan is not None)

    def litter(self) -> Figure:
        """Return a piece of litter somewhere in the region."""
        kind = _pick(self.rng, self.scenery.litter)
        limit = 0.3 * float(np.sqrt(self.frame.area))
        length = _size(self.rng, self.scenery.litter_size, 1.0 if kind != "fibre" else 4.0, limit)
        figure = posed(LITTER[kind](self.rng), self.rng, bend=0.0)
        place = self._anywhere()
        return figure.warped(lambda xy: xy * length + place)

    def add_litter(self) -> None:
        """Put a piece of litter on top, where it does not hide too much."""
        figure = self.litter()
        self._put(figure, figure.silhouette(), None)

    def add_animal(self, wardrobe: str, zoom: float) -> None:
        """Put an animal on top; after some attempts in vain the scene is left with one fewer."""
        plan = _pick(self.rng, self.scenery.plans)
        figure = posed(
            PLANS[plan](self.rng, wardrobe), self.rng, bend=0.9 if plan in {"springtail", "thrips"} else 0.25
        )
        shape = figure.silhouette()
        x1, y1, x2, y2 = shapely.bounds(shape)
        limit = 0.45 * float(np.sqrt(self.frame.area))
        scale = _size(self.rng, self.scenery.animal_size, zoom, limit) / float(np.sqrt((x2 - x1) * (y2 - y1)))
        for _ in range(ATTEMPTS):
            place = self._place(scale)

            def put(xy: Points, offset: Points = place) -> Points:
                return xy * scale + offset

            if self._put(figure.warped(put), shapely.transform(shape, put), plan):
                return

    def _anywhere(self) -> Points:
        x1, y1, x2, y2 = shapely.bounds(self.region)
        for _ in range(ATTEMPTS):
            place = self.rng.uniform((x1, y1), (x2, y2))
            if shapely.contains_xy(self.region, *place):
                return place
        return np.asarray(shapely.get_coordinates(shapely.point_on_surface(self.region))[0])

    def _place(self, scale: float) -> Points:
        animals = [i for i, plan in enumerate(self.plans) if plan is not None]
        if animals and self.rng.random() < self.scenery.clumping:
            x1, y1, x2, y2 = shapely.bounds(self.visible[animals[self.rng.integers(len(animals))]])
            angle = self.rng.uniform(0, 2 * np.pi)
            away = self.rng.uniform(0.25, 0.6) * (scale + 0.5 * (x2 - x1 + y2 - y1))
            return np.array([(x1 + x2) / 2 + away * np.cos(angle), (y1 + y2) / 2 + away * np.sin(angle)])
        return self._anywhere()

    def _put(self, figure: Figure, shape: Any, plan: str | None) -> bool:
        inside = polygons_of(shapely.intersection(shape, self.frame))
        if plan is not None and inside.area < LEAST_VISIBLE * shape.area:
            return False
        touched = [i for i, other in enumerate(self.visible) if shapely.intersects(other, inside)]
        rest = [polygons_of(shapely.difference(self.visible[i], inside)) for i in touched]
        if any(left.area < LEAST_VISIBLE * self.whole_areas[i] for i, left in zip(touched, rest, strict=True)):
            return False
        for i, left in zip(touched, rest, strict=True):
            self.visible[i] = left
        self.figures.append(figure)
        self.plans.append(plan)
        self.visible.append(inside)
        # Litter on top may itself be covered to any degree.
        self.whole_areas.append(float(shape.area) if plan is not None else 0.0)
        return True


def posed(figure: Figure, rng: np.random.Generator, *, bend: float) -> Figure:
    """Return the figure bent along its body, seen a little from the side, and turned to any direction."""
    curvature = bend * rng.normal() + 1e-6
    squash, shear = (rng.uniform(0.55, 1.0), 0.15 * rng.normal()) if rng.random() < 0.35 else (1.0, 0.0)
    turn = rng.uniform(0, 2 * np.pi)
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])

    def warp(xy: Points) -> Points:
        x, y = xy[:, 0] * squash + shear * xy[:, 1], xy[:, 1]
        angle = curvature * np.clip(y, -0.6, 0.6)
        beyond = y - np.clip(y, -0.6, 0.6)
        spine_x = (1 - np.cos(angle)) / curvature + beyond * np.sin(angle)
        spine_y = np.sin(angle) / curvature + beyond * np.cos(angle)
        bent = np.stack([spine_x + x * np.cos(angle), spine_y - x * np.sin(angle)], axis=1)
        return np.asarray(bent @ rotation)

    return figure.warped(warp)


def take_picture(picture: Picture, camera: Camera, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return the scene as a camera stores it: blurred, sharpened, tinted, noisy, in 8 bits."""
    height, width = picture.shape[:2]
    blur = rng.uniform(*camera.blur)
    if blur > 0.2:
        picture = ndimage.gaussian_filter(picture, (blur, blur, 0), truncate=3)
    sharpening = rng.uniform(*camera.sharpening) * (rng.random() < 0.5)
    if sharpening > 0:
        picture = picture + sharpening * (picture - ndimage.gaussian_filter(picture, (1.5, 1.5, 0), truncate=3))
    if camera.grey:
        picture = np.repeat(picture.mean(axis=2, keepdims=True), 3, axis=2)
    else:
        picture = picture * (1 + 0.03 * rng.standard_normal((1, 1, 3), dtype=np.float32))
    picture = np.clip(picture, 0, 1) ** np.float32(np.exp(0.12 * rng.normal())) * np.float32(
        np.exp(0.06 * rng.normal())
    )
    level = rng.uniform(*camera.noise)
    picture = picture + np.float32(level) * rng.standard_normal(picture.shape, dtype=np.float32)
    picture += np.float32(level) * smooth_noise(rng, height, width, 2)[..., None]
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
