"""What animals lie on: each function paints an empty scene and says where in it animals may be put."""

from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import shapely
from matplotlib.textpath import TextPath
from scipy import ndimage

from flat_bug.datasets.synthetic import litter
from flat_bug.datasets.synthetic.raster import Grey, Light, Picture, Window, coverage, paint, smooth_noise
from flat_bug.datasets.synthetic.shapes import Colour, Points, limb

WORDS = (
    "INSECT TRAP",
    "FIELD 7",
    "No. 0412",
    "PLOT B3",
    "STICKY CARD",
    "SITE 19",
    "2024-07",
    "MEADOW",
    "D 019",
    "LOT 88",
)


@dataclass(frozen=True)
class Ground:
    """An empty scene.

    Args:
        picture: ``(height, width, 3)`` float32, 0 to 1.
        region: Polygon in which animals are centred.
        dark: Whether only pale animals would be seen on it.
    """

    picture: Picture
    region: Any
    dark: bool = False


def lettering(text: str, height: float, centre: tuple[float, float], angle: float = 0.0) -> Any:
    """Return printed text as a geometry; ``height`` of its letters in pixels, ``angle`` in radians."""
    rings = [np.asarray(ring) for ring in TextPath((0, 0), text, size=height * 1.4).to_polygons()]
    solids = [shapely.make_valid(shapely.polygons(ring)) for ring in rings if len(ring) > 3]
    shape = reduce(shapely.symmetric_difference, solids)
    x1, y1, x2, y2 = shapely.bounds(shape)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    middle = np.array([(x1 + x2) / 2, (y1 + y2) / 2])
    return shapely.transform(shape, lambda xy: ((xy - middle) * (1, -1)) @ turn + centre)


def _print(picture: Picture, shape: Any, colour: Colour, opacity: float = 0.9, blur: float = 0.0) -> None:
    window = Window.around(shape, 3 * blur + 1, *picture.shape[:2])
    if window is None:
        return
    cover = coverage(shape, window)
    if blur > 0:
        cover = ndimage.gaussian_filter(cover, blur)
    under = picture[window.slices]
    under += opacity * cover[..., None] * (np.asarray(colour, dtype=np.float32) - under)


def _flat(height: int, width: int, colour: Colour) -> Picture:
    return np.full((height, width, 3), colour, dtype=np.float32)


def _gradient(rng: np.random.Generator, height: int, width: int) -> Grey:
    """Return a plane through 0 whose steepest ends are -1 and 1, in a random direction."""
    angle = rng.uniform(0, 2 * np.pi)
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    plane = (np.cos(angle) * x + np.sin(angle) * y) / 1.42
    return np.asarray(plane, dtype=np.float32)


def _distance(height: int, width: int, x: float, y: float, radius: float) -> Grey:
    rows = (np.arange(height, dtype=np.float32)[:, None] - np.float32(y)) / np.float32(radius)
    columns = (np.arange(width, dtype=np.float32)[None, :] - np.float32(x)) / np.float32(radius)
    return np.asarray(np.hypot(rows, columns), dtype=np.float32)


def _emboss(rng: np.random.Generator, height: int, width: int, cell: float) -> Grey:
    """Return a bumpy surface lit from the side, about -1 to 1."""
    bumps = smooth_noise(rng, height, width, cell, 2)
    return np.asarray(np.clip(bumps - np.roll(bumps, (1, 1), (0, 1)), -1.5, 1.5), dtype=np.float32)


def sticky_card(rng: np.random.Generator, height: int, width: int) -> Ground:
    """Paint a yellow (at times blue) trap with printed grid and words, glue, stains, and the table behind it."""
    grey = rng.uniform(0.78, 0.92)
    picture = _flat(height, width, (grey, grey, 0.99 * grey))
    picture += (
        0.02 * smooth_noise(rng, height, width, 200, 2)[..., None] + 0.06 * _gradient(rng, height, width)[..., None]
    )
    _scatter(rng, picture, ("scratch",), 40, (20, 300))
    _scatter(rng, picture, ("crumb",), 30, (3, 14))
    size = max(height, width)
    close_up = rng.random() < 0.5
    turn = rng.normal(0, 0.04) + rng.choice([0.0, np.pi / 2])
    half = (
        np.array([1.5, 1.5]) * size if close_up else np.array([0.36, 0.62]) * min(height, width) * rng.uniform(0.9, 1.3)
    )
    axes = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    card = _Card(np.array([width, height]) * rng.uniform(0.45, 0.55, 2), axes, half)
    cover = coverage(card.outline(), Window(0, height, 0, width))[..., None]
    sheet = _glue(rng, height, width)
    step = rng.uniform(0.16, 0.3) * size
    _print_grid(rng, sheet, card, step)
    for _ in range(int(rng.integers(0, 4))):
        x, y = card.at(np.array([[0, (rng.integers(-2, 3) + 0.5) * step]]))[0]
        ink: Colour = (0.03, 0.32, 0.14) if rng.random() < 0.5 else (0.06, 0.06, 0.05)
        angle = turn + rng.choice([0, np.pi / 2])
        _print(sheet, lettering(str(rng.choice(WORDS)), rng.uniform(0.015, 0.04) * size, (x, y), angle), ink)
    picture += cover * (sheet - picture)
    return Ground(np.clip(picture, 0, 1), shapely.intersection(card.outline(), shapely.box(0, 0, width, height)))


def _glue(rng: np.random.Generator, height: int, width: int) -> Picture:
    blue = rng.random() < 0.08
    base = np.array((0.16, 0.42, 0.75) if blue else (0.93, 0.79, 0.06)) * rng.uniform(0.85, 1.06)
    base = base * (1 + 0.03 * rng.normal(size=3)) + (0, 0, rng.choice([0.0, 0.08]))
    sheet = _flat(height, width, tuple(base))
    sheet *= 1 + 0.08 * rng.uniform(0.3, 1.5) * _gradient(rng, height, width)[..., None]
    sheet *= 1 + 0.015 * smooth_noise(rng, height, width, 150, 2)[..., None]
    strength = rng.uniform(0.01, 0.06)
    sheet += (
        strength * _emboss(rng, height, width, rng.uniform(4, 12))[..., None] * np.array((1.0, 0.95, 0.6), np.float32)
    )
    stains = np.clip(smooth_noise(rng, height, width, rng.uniform(40, 110), 2) - rng.uniform(1.6, 2.6), 0, 1)
    stain = np.array((0.5, 0.47, 0.08) if not blue else (0.1, 0.25, 0.5), dtype=np.float32)
    return np.asarray(sheet + 0.6 * stains[..., None] * (stain - sheet), dtype=np.float32)


@dataclass(frozen=True)
class _Card:
    """Where a trap lies: its centre, its axes as rows, and half its width and height along them, in pixels."""

    centre: Points
    axes: Points
    half: Points

    def at(self, places: Points) -> Points:
        """Return image coordinates ``(n, 2)`` of places on the card that are given in pixels from its centre."""
        return np.asarray(places @ self.axes + self.centre)

    def outline(self) -> Any:
        """Return the card's edge as a polygon."""
        return shapely.polygons(self.at(np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * self.half))


def _print_grid(rng: np.random.Generator, sheet: Picture, card: _Card, step: float) -> None:
    if rng.random() < 0.15:
        return
    reach = min(2.0 * max(sheet.shape), float(card.half.max()))
    dash = rng.uniform(0.05, 0.12) * step
    gap = dash * rng.choice([0.0, 0.3, 0.6])
    pen = rng.uniform(1.0, 3.0) * max(1.0, step / 300)
    starts = np.arange(-reach, reach, dash + gap)
    lines = []
    for axis in (0, 1):
        count = int(reach / step)
        for number in range(-count, count + 1):
            if axis == 1 and rng.random() < 0.6:
                continue
            for start in starts:
                ends = np.array([[start, number * step], [start + dash, number * step]])
                lines.append(card.at(ends if axis == 0 else ends[:, ::-1]))
    frame = shapely.box(0, 0, sheet.shape[1], sheet.shape[0])
    dashes = shapely.linestrings(np.array(lines))
    dashes = shapely.buffer(dashes[shapely.intersects(dashes, frame)], pen / 2, cap_style="flat")
    _print(sheet, shapely.union_all(dashes), (0.10, 0.09, 0.05), rng.uniform(0.6, 0.95))


def light_sheet(rng: np.random.Generator, height: int, width: int) -> Ground:
    """Paint a white cloth or board before a lamp: tinted, vignetted, woven, with specks."""
    tints: tuple[Colour, ...] = ((0.90, 0.92, 0.88), (0.88, 0.86, 0.90), (0.93, 0.93, 0.93), (0.80, 0.80, 0.82))
    picture = _flat(height, width, tints[rng.integers(len(tints))]) * np.float32(rng.uniform(0.88, 1.06))
    away = _distance(
        height, width, width * rng.uniform(0.35, 0.65), height * rng.uniform(0.35, 0.65), 0.6 * max(height, width)
    )
    falloff = rng.uniform(0.05, 0.4)
    edge = np.array((0.9, 1.1, 0.8) if rng.random() < 0.5 else (1.0, 1.0, 1.1), dtype=np.float32)
    picture *= 1 - falloff * (away**2)[..., None] * edge * 0.6
    picture += 0.05 * _gradient(rng, height, width)[..., None]
    weave = rng.uniform(0.0, 0.022)
    for axis in (0, 1):
        period = rng.uniform(3, 9)
        lines = np.sin(2 * np.pi * np.arange(picture.shape[axis], dtype=np.float32) / np.float32(period))
        fabric = lines[:, None] if axis == 0 else lines[None, :]
        picture += weave * (fabric * (0.6 + 0.4 * smooth_noise(rng, height, width, 6)))[..., None]
    picture += rng.uniform(0, 0.02) * smooth_noise(rng, height, width, 2.5)[..., None]
    picture += 0.006 * smooth_noise(rng, height, width, 250, 2)[..., None]
    if rng.random() < 0.5:
        specks = smooth_noise(rng, height, width, rng.uniform(1.6, 3.5)) > rng.uniform(2.2, 3.2)
        picture -= 0.3 * ndimage.gaussian_filter(specks.astype(np.float32), 0.6)[..., None]
    if rng.random() < 0.3:
        _checker(rng, picture)
    return Ground(np.clip(picture, 0, 1), shapely.box(0, 0, width, height))


def _checker(rng: np.random.Generator, picture: Picture) -> None:
    """Print a chequered scale bar somewhere."""
    height, width = picture.shape[:2]
    cell = max(4, int(0.008 * max(height, width)))
    top = int(rng.integers(0, max(1, height - 4 * cell)))
    left = int(rng.integers(0, max(1, width - 14 * cell)))
    squares = [
        shapely.box(left + i * cell, top + (i % 2) * cell, left + (i + 1) * cell, top + (i % 2 + 1) * cell)
        for i in range(10)
    ]
    _print(picture, shapely.union_all(squares), (0.2, 0.2, 0.22))


def petri_dish(rng: np.random.Generator, height: int, width: int) -> Ground:
    """Paint a round dish: lit from below on white, or dark with a bright rim and a printed scale."""
    dark = rng.random() < 0.45
    radius = 0.5 * min(height, width) * rng.uniform(0.97, 1.7)
    x, y = width * rng.uniform(0.4, 0.6), height * rng.uniform(0.4, 0.6)
    away = _distance(height, width, x, y, radius)
    if dark:
        inside: Colour = (0.17, 0.20, 0.19)
        outside: Colour = (0.07, 0.08, 0.08)
    else:
        inside = (rng.uniform(0.78, 0.88), rng.uniform(0.86, 0.92), rng.uniform(0.86, 0.95))
        outside = (1.0, 1.0, 1.0)
    picture = _flat(height, width, inside)
    picture *= (
        1
        + 0.05 * _gradient(rng, height, width)[..., None]
        + 0.005 * smooth_noise(rng, height, width, 200, 2)[..., None]
    )
    if dark:
        picture += 0.008 * smooth_noise(rng, height, width, 3)[..., None]
        for tick in range(int(rng.integers(0, 5))):
            place = (width * rng.uniform(0.1, 0.9), height * rng.uniform(0.1, 0.9))
            _print(
                picture, lettering(str(10 * tick + 10), 0.06 * min(height, width), place), (0.7, 0.72, 0.72), 0.6, 4.0
            )
    rim = np.clip((away - 0.995) * radius, 0, 1)[..., None]
    picture += rim * (np.asarray(outside, dtype=np.float32) - picture)
    for ring in rng.uniform(0.98, 1.06, int(rng.integers(2, 7)) if dark else 1):
        glint = np.exp(-(((away - np.float32(ring)) * radius / rng.uniform(1.5, 6)) ** 2))[..., None]
        picture += (
            rng.uniform(0.1, 0.5)
            * glint
            * np.asarray(rng.uniform(0.6, 1.0, 3) if dark else (-0.2, -0.2, -0.2), np.float32)
        )
    disc = shapely.buffer(shapely.Point(x, y), 0.96 * radius)
    return Ground(np.clip(picture, 0, 1), shapely.intersection(disc, shapely.box(0, 0, width, height)), dark)


def scanner_tray(rng: np.random.Generator, height: int, width: int) -> Ground:
    """Paint a flatbed scan or a drawer: even grey, white or cream, with a ruler and labels."""
    bases: tuple[Colour, ...] = (
        (0.93, 0.93, 0.92),
        (0.72, 0.72, 0.73),
        (0.90, 0.86, 0.76),
        (0.50, 0.52, 0.54),
        (0.97, 0.97, 0.97),
    )
    picture = _flat(height, width, bases[rng.integers(len(bases))])
    picture *= (
        1
        + 0.03 * _gradient(rng, height, width)[..., None]
        + 0.004 * smooth_noise(rng, height, width, 120, 2)[..., None]
    )
    picture += 0.012 * rng.standard_normal((1, width, 1), dtype=np.float32) * rng.random()
    picture += rng.uniform(0, 0.02) * smooth_noise(rng, height, width, 2)[..., None]
    if rng.random() < 0.6:
        _ruler(rng, picture)
    for _ in range(int(rng.integers(0, 4))):
        _label(rng, picture)
    return Ground(np.clip(picture, 0, 1), shapely.box(0, 0, width, height))


def _ruler(rng: np.random.Generator, picture: Picture) -> None:
    height, width = picture.shape[:2]
    step, top = width / rng.uniform(60, 140), height * rng.choice([0.01, 0.94])
    ticks = [
        limb([(i * step, top), (i * step, top + height * (0.03 if i % 10 == 0 else 0.015))], 1.2)
        for i in range(int(width / step))
    ]
    numbers = [
        lettering(str(i // 10), 0.012 * height, (i * step, top + 0.042 * height))
        for i in range(10, int(width / step), 10)
    ]
    _print(picture, shapely.union_all(ticks + numbers), (0.12, 0.12, 0.12), 0.85)


def _label(rng: np.random.Generator, picture: Picture) -> None:
    height, width = picture.shape[:2]
    x, y, angle = width * rng.uniform(0.1, 0.9), height * rng.uniform(0.1, 0.9), rng.normal(0, 0.08)
    letters = max(6.0, 0.012 * min(height, width))
    words = lettering(str(rng.choice(WORDS)), letters, (x, y), angle)
    _print(
        picture, shapely.buffer(shapely.oriented_envelope(words), letters, join_style="mitre"), (0.98, 0.98, 0.96), 0.95
    )
    _print(picture, words, (0.1, 0.1, 0.12))


def leaf_litter(rng: np.random.Generator, height: int, width: int) -> Ground:
    """Paint soil, dead leaves and twigs."""
    soils: tuple[Colour, ...] = ((0.16, 0.13, 0.10), (0.27, 0.22, 0.17), (0.38, 0.33, 0.26), (0.52, 0.47, 0.38))
    picture = _flat(height, width, soils[rng.integers(len(soils))]) * np.float32(rng.uniform(0.8, 1.3))
    picture *= 1 + 0.12 * smooth_noise(rng, height, width, 90, 2)[..., None]
    picture *= 1 + 0.22 * _emboss(rng, height, width, rng.uniform(3, 9))[..., None]
    picture *= 1 + 0.10 * rng.standard_normal((height, width, 1), dtype=np.float32)
    _scatter(
        rng, picture, ("crumb", "pebble", "crumb", "twig"), int(rng.uniform(50, 300) * height * width / 1e6), (4, 40)
    )
    leaves = int(_skewed(rng) * 150 * height * width / 1e6)
    _scatter(rng, picture, ("leaf", "leaf", "leaf", "blade"), leaves, (60, 420))
    picture *= 1 + 0.15 * _gradient(rng, height, width)[..., None]
    return Ground(np.clip(picture, 0, 1), shapely.box(0, 0, width, height))


def _skewed(rng: np.random.Generator) -> float:
    """Return a number between 0 and 1, more often small than large."""
    return float(rng.random() ** 2)


def arena(rng: np.random.Generator, height: int, width: int) -> Ground:
    """Paint a lit box seen by an infrared camera: bright floor with ribs, dark walls."""
    picture = _flat(height, width, (0.9, 0.9, 0.9)) * np.float32(rng.uniform(0.75, 1.08))
    away = _distance(
        height, width, width * rng.uniform(0.4, 0.6), height * rng.uniform(0.4, 0.6), 0.7 * max(height, width)
    )
    picture *= 1 - rng.uniform(0.1, 0.55) * (away**2)[..., None]
    picture += 0.012 * smooth_noise(rng, height, width, 250, 2)[..., None]
    if rng.random() < 0.7:
        pitch = width / rng.uniform(10, 24)
        ribs = [
            limb([(i * pitch, 0.2 * height), (i * pitch, 0.8 * height)], 0.12 * pitch)
            for i in range(2, int(width / pitch) - 1)
        ]
        _print(picture, shapely.union_all(ribs), (1.0, 1.0, 1.0), 0.5, 1.5)
        _print(
            picture, shapely.transform(shapely.union_all(ribs), lambda xy: xy + 0.07 * pitch), (0.3, 0.3, 0.3), 0.3, 1.5
        )
    for _ in range(int(rng.integers(0, 4))):
        x, y = width * rng.random(), height * rng.choice([0.03, 0.97])
        grey = float(rng.uniform(0.05, 0.7))
        box = shapely.box(x, y - 0.1 * height, x + width * rng.uniform(0.05, 0.25), y + 0.1 * height)
        _print(picture, box, (grey, grey, grey), 0.9, 2.0)
    return Ground(np.clip(picture, 0, 1), shapely.box(0.03 * width, 0.03 * height, 0.97 * width, 0.97 * height))


def _scatter(
    rng: np.random.Generator, picture: Picture, kinds: tuple[str, ...], count: int, sizes: tuple[float, float]
) -> None:
    """Paint pieces of litter that belong to the ground."""
    height, width = picture.shape[:2]
    light = Light(rng.uniform(0, 2 * np.pi), 0.35, 0.04)
    for _ in range(count):
        figure = litter.LITTER[str(rng.choice(kinds))](rng)
        turn, size = rng.uniform(0, 2 * np.pi), float(np.exp(rng.uniform(*np.log(sizes))))
        matrix = size * np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        place = rng.uniform(0, 1, 2) * (width, height)
        paint(picture, [figure.warped(lambda xy, m=matrix, p=place: xy @ m + p)], light)  # type: ignore[misc]
