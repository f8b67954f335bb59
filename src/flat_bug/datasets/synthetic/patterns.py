"""Patterns of wings, elytra and bodies, as functions of a part's own coordinates.

Each takes a :class:`Surface` and returns two arrays of its shape: how much of the pattern's colour to mix in, 0 to 1,
and a factor on the part's opacity.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from flat_bug.datasets.synthetic.shapes import Pattern

Grey = NDArray[np.floating[Any]]


class Surface:
    """The pixels of a part in the part's own coordinates.

    ``u`` runs 0 to 1 along the first axis of the pattern's frame, ``v`` along its second; both are ``(h, w)`` float32.

    Args:
        pattern: What is painted, and its frame in pixels.
        x: Horizontal position of each pixel's centre, ``(h, w)``.
        y: Vertical position of each pixel's centre, ``(h, w)``.
    """

    def __init__(self, pattern: Pattern, x: Grey, y: Grey) -> None:
        origin, first, second = pattern.frame
        along, across = first - origin, second - origin
        scale = along[0] * across[1] - along[1] * across[0]
        dx, dy = x - origin[0], y - origin[1]
        self.pattern = pattern
        self.u: Grey = ((dx * across[1] - dy * across[0]) / scale).astype(np.float32)
        self.v: Grey = ((dy * along[0] - dx * along[1]) / scale).astype(np.float32)

    @property
    def density(self) -> float:
        """How many bands, spots or veins."""
        return self.pattern.density

    def random(self) -> np.random.Generator:
        """Return a generator that is the same for both wings of a pair."""
        return np.random.default_rng([self.pattern.seed, 0])

    def noise(self, along: float, across: float, layer: int = 1) -> Grey:
        """Return noise of mean 0 and deviation 1 at most, with so many knots per unit of ``u`` and ``v``."""
        grid = np.random.default_rng([self.pattern.seed, layer]).standard_normal((48, 48), dtype=np.float32)
        places = np.stack([self.u * np.float32(along), self.v * np.float32(across)])
        return np.asarray(ndimage.map_coordinates(grid, places, order=1, mode="grid-wrap"), dtype=np.float32)

    def solid(self) -> Grey:
        """Return the opacity factor of a pattern that does not change it."""
        return np.ones_like(self.u)


Painter = Callable[[Surface], tuple[Grey, Grey]]


def _ridge(distance: Grey, width: float) -> Grey:
    """Return 1 where the distance is 0, falling off over ``width``."""
    return np.asarray(np.exp(-((distance / np.float32(width)) ** 2)))


def _above(value: Grey, width: float) -> Grey:
    """Return 1 where the value is well above 0 and 0 where it is well below, with an edge of the given width."""
    return np.asarray(np.clip(value / np.float32(width) + np.float32(0.5), 0, 1))


def bands(surface: Surface) -> tuple[Grey, Grey]:
    """Paint stripes across the body, as on wasps and bees."""
    wave = np.sin(2 * np.pi * (surface.u * surface.density + 0.1 * surface.v**2))
    return 0.9 * _above(wave + 0.15 * surface.noise(9, 9), 0.5), surface.solid()


def rings(surface: Surface) -> tuple[Grey, Grey]:
    """Paint thin dark lines between the segments of an abdomen."""
    edge = np.sin(np.pi * (surface.u * surface.density + 0.08 * surface.v**2))
    return 0.7 * _ridge(edge, 0.28) + 0.1 * surface.noise(14, 9), surface.solid()


def spots(surface: Surface) -> tuple[Grey, Grey]:
    """Paint round spots at random places, mirrored left to right."""
    rng = surface.random()
    mix = np.zeros_like(surface.u)
    for _ in range(max(1, int(surface.density))):
        u, v, radius = rng.uniform(0.1, 0.95), rng.uniform(0.1, 0.8), rng.uniform(0.07, 0.18)
        mix = np.maximum(mix, _above(radius - np.hypot(surface.u - u, 0.6 * (np.abs(surface.v) - v)), 0.05))
    return 0.95 * mix, surface.solid()


def striae(surface: Surface) -> tuple[Grey, Grey]:
    """Paint grooves along the elytra of a beetle or the veins of a blade of grass."""
    groove = np.sin(np.pi * surface.density * surface.v)
    return 0.45 * _ridge(groove, 0.35) + 0.08 * surface.noise(30, 20), surface.solid()


def veins(surface: Surface) -> tuple[Grey, Grey]:
    """Paint the veins of a clear wing, which is more opaque along them."""
    u, v = surface.u, surface.v
    fan = np.sin(np.pi * surface.density * v / (0.35 + np.abs(u)))
    vein = np.clip(_ridge(fan, 0.22) + 0.7 * _ridge(u - 0.55 - 0.1 * v, 0.02), 0, 1)
    return 0.7 * vein, 0.8 + vein + 0.15 * surface.noise(4, 4)


def scales(surface: Surface) -> tuple[Grey, Grey]:
    """Paint a moth's wing: wavy cross lines, bands, mottling, a dark margin and an eyespot."""
    rng = surface.random()
    u, v = surface.u, surface.v
    mottled = 0.35 + 0.25 * surface.noise(5, 5) + 0.18 * surface.noise(26, 14, 2) + 0.12 * surface.noise(45, 40, 3)
    mix = mottled * rng.uniform(0.3, 0.9)
    wobble = 0.035 * surface.noise(2, 9, 4) + 0.012 * surface.noise(3, 24, 5)
    for _ in range(int(surface.density)):
        where, width, lean = rng.uniform(0.12, 0.95), rng.uniform(0.01, 0.035), rng.uniform(-0.25, 0.25)
        mix = mix + rng.uniform(-0.7, 0.95) * _ridge(u + wobble + lean * v - where, width)
    if rng.random() < 0.5:
        inner, broad = rng.uniform(0.25, 0.6), rng.uniform(0.08, 0.25)
        band = _above(u + wobble - inner, 0.03) * _above(inner + broad - u - wobble, 0.03)
        mix = mix + rng.uniform(-0.5, 0.8) * band
    if rng.random() < 0.5:
        centre_u, centre_v, radius = rng.uniform(0.45, 0.65), rng.uniform(-0.1, 0.1), rng.uniform(0.04, 0.1)
        away = np.hypot(u - centre_u, 0.7 * (v - centre_v)) / radius
        mix = mix + 0.9 * _ridge(away - 1, 0.4) - 0.5 * _ridge(away, 0.5)
    # Veins run out to the margin.
    mix = mix + rng.uniform(0, 0.35) * _ridge(np.sin(np.pi * 5 * v / (0.4 + np.abs(u))), 0.2)
    mix = mix + rng.uniform(0, 0.7) * _above(u - 0.92 + wobble, 0.1)
    return np.clip(mix, 0, 1), surface.solid()


def fur(surface: Surface) -> tuple[Grey, Grey]:
    """Paint hair along the body, in tufts of two colours."""
    strands = 0.45 + 0.3 * surface.noise(4 * surface.density, 14) + 0.15 * surface.noise(30, 40, 2)
    return np.clip(strands, 0, 1), surface.solid()


def marbling(surface: Surface) -> tuple[Grey, Grey]:
    """Paint cloudy blotches at two sizes, for leaves, seeds, soft bodies and soil crumbs."""
    knots = surface.density
    clouds = 0.5 + 0.35 * surface.noise(knots, knots) + 0.2 * surface.noise(4 * knots, 4 * knots, 2)
    return 0.8 * np.clip(clouds, 0, 1), surface.solid()


def leaf(surface: Surface) -> tuple[Grey, Grey]:
    """Paint the midrib and side veins of a leaf, with blotches."""
    side = np.sin(np.pi * surface.density * (surface.u - 0.6 * np.abs(surface.v)))
    clouds, thickness = marbling(surface)
    return np.clip(0.6 * _ridge(surface.v, 0.03) + 0.35 * _ridge(side, 0.12) + 0.5 * clouds, 0, 1), thickness


PATTERNS: dict[str, Painter] = {
    painter.__name__: painter for painter in (bands, rings, spots, striae, veins, scales, fur, marbling, leaf)
}
