"""Patterns of wings, elytra and bodies, as functions of a part's own coordinates.

Each takes a :class:`Pattern` and the pixels' x and y ``(h, w)`` and returns two arrays of that shape: how much of the
pattern's colour to mix in, 0 to 1, and a factor on the part's opacity.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from flat_bug.datasets.synthetic.shapes import Pattern

Grey = NDArray[np.float32]
Painter = Callable[[Pattern, Grey, Grey], tuple[Grey, Grey]]


def _own_coordinates(pattern: Pattern, x: Grey, y: Grey) -> tuple[Grey, Grey]:
    origin, first, second = pattern.frame
    along, across = first - origin, second - origin
    scale = along[0] * across[1] - along[1] * across[0]
    dx, dy = x - np.float32(origin[0]), y - np.float32(origin[1])
    u = (dx * across[1] - dy * across[0]) / scale
    v = (dy * along[0] - dx * along[1]) / scale
    return u.astype(np.float32), v.astype(np.float32)


def _noise(pattern: Pattern, u: Grey, v: Grey, fine_u: float, fine_v: float, salt: int = 0) -> Grey:
    grid = np.random.default_rng([pattern.seed, salt]).standard_normal((48, 48), dtype=np.float32)
    sampled = ndimage.map_coordinates(grid, np.stack([u * fine_u, v * fine_v]), order=1, mode="grid-wrap")
    return np.asarray(sampled, dtype=np.float32)


def _soft(value: Grey, width: float) -> Grey:
    """Return 1 where the value is well above 0 and 0 where it is well below, with an edge of the given width."""
    return np.clip(value / np.float32(width) + np.float32(0.5), 0, 1)


def bands(pattern: Pattern, x: Grey, y: Grey) -> tuple[Grey, Grey]:
    """Stripes across the body, as on wasps and bees."""
    u, v = _own_coordinates(pattern, x, y)
    wave = np.sin(2 * np.pi * (u * pattern.density + 0.1 * v * v))
    return 0.9 * _soft(wave + 0.15 * _noise(pattern, u, v, 9, 9), 0.5), np.ones_like(u)


def rings(pattern: Pattern, x: Grey, y: Grey) -> tuple[Grey, Grey]:
    """Thin dark lines between the segments of an abdomen."""
    u, v = _own_coordinates(pattern, x, y)
    edge = np.abs(np.sin(np.pi * (u * pattern.density + 0.08 * v * v)))
    return 0.7 * np.exp(-((edge / 0.28) ** 2)).astype(np.float32) + 0.1 * _noise(pattern, u, v, 14, 9), np.ones_like(u)


def spots(pattern: Pattern, x: Grey, y: Grey) -> tuple[Grey, Grey]:
    """Round spots at random places, mirrored left to right."""
    u, v = _own_coordinates(pattern, x, y)
    rng = np.random.default_rng(pattern.seed)
    mix = np.zeros_like(u)
    for _ in range(max(1, int(pattern.density))):
        centre_u, centre_v = rng.uniform(0.1, 0.95), rng.uniform(0.1, 0.8)
        radius = rng.uniform(0.08, 0.2)
        distance = np.hypot(u - np.float32(centre_u), np.abs(v) - np.float32(centre_v))
        mix = np.maximum(mix, _soft(np.float32(radius) - distance, 0.06))
    return 0.95 * mix, np.ones_like(u)


def striae(pattern: Pattern, x: Grey, y: Grey) -> tuple[Grey, Grey]:
    """Grooves along the elytra of a beetle."""
    u, v = _own_coordinates(pattern, x, y)
    groove = np.abs(np.sin(np.pi * pattern.density * v))
    return 0.45 * np.exp(-((groove / 0.35) ** 2)).astype(np.float32) + 0.08 * _noise(
        pattern, u, v, 30, 20
    ), np.ones_like(u)


def veins(pattern: Pattern, x: Grey, y: Grey) -> tuple[Grey, Grey]:
    """Veins of a clear wing, which is thicker along them and at its leading edge."""
    u, v = _own_coordinates(pattern, x, y)
    fan = np.abs(np.sin(np.pi * pattern.density * v / (0.35 + np.abs(u))))
    cross = np.exp(-(((u - 0.55 - 0.1 * v) / 0.02) ** 2))
    vein = np.clip(np.exp(-((fan / 0.22) ** 2)) + 0.7 * cross, 0, 1).astype(np.float32)
    cloud = 0.15 * _noise(pattern, u, v, 4, 4)
    return 0.7 * vein, 0.8 + vein + cloud


def scales(pattern: Pattern, x: Grey, y: Grey) -> tuple[Grey, Grey]:
    """A moth's wing: wavy cross lines, mottling, a dark margin and an eyespot."""
    u, v = _own_coordinates(pattern, x, y)
    rng = np.random.default_rng([pattern.seed, 7])
    mottled = 0.5 + 0.22 * _noise(pattern, u, v, 5, 5) + 0.14 * _noise(pattern, u, v, 26, 14, 1)
    mix = mottled * np.float32(rng.uniform(0.25, 0.75))
    wobble = 0.035 * _noise(pattern, u, v, 2, 9, 2)
    for _ in range(int(pattern.density)):
        where, width = rng.uniform(0.15, 0.95), rng.uniform(0.012, 0.05)
        strength, lean = rng.uniform(-0.6, 0.8), rng.uniform(-0.25, 0.25)
        mix = mix + np.float32(strength) * np.exp(-(((u + wobble + lean * v - where) / width) ** 2))
    if rng.random() < 0.6:
        ring = np.hypot((u - rng.uniform(0.45, 0.65)) * 1.0, (v - rng.uniform(-0.1, 0.1)) * 0.7) / rng.uniform(
            0.04, 0.1
        )
        mix = mix + 0.9 * np.exp(-(((ring - 1) / 0.4) ** 2)) - 0.5 * np.exp(-((ring / 0.5) ** 2))
    mix = mix + np.float32(rng.uniform(0, 0.6)) * _soft(u - 0.93 + wobble, 0.12)
    return np.clip(mix, 0, 1).astype(np.float32), np.ones_like(u)


def fur(pattern: Pattern, x: Grey, y: Grey) -> tuple[Grey, Grey]:
    """Hair along the body, in tufts of two colours."""
    u, v = _own_coordinates(pattern, x, y)
    strands = 0.45 + 0.3 * _noise(pattern, u, v, 4 * pattern.density, 14) + 0.15 * _noise(pattern, u, v, 30, 40, 1)
    return np.clip(strands, 0, 1), np.ones_like(u)


def marbling(pattern: Pattern, x: Grey, y: Grey) -> tuple[Grey, Grey]:
    """Cloudy blotches at two sizes, for leaves, seeds, soft bodies and soil crumbs."""
    u, v = _own_coordinates(pattern, x, y)
    fine = pattern.density
    clouds = 0.5 + 0.35 * _noise(pattern, u, v, fine, fine) + 0.2 * _noise(pattern, u, v, 4 * fine, 4 * fine, 1)
    return np.clip(clouds, 0, 1) * 0.8, np.ones_like(u)


def leaf(pattern: Pattern, x: Grey, y: Grey) -> tuple[Grey, Grey]:
    """Midrib and side veins of a leaf, with blotches."""
    u, v = _own_coordinates(pattern, x, y)
    midrib = np.exp(-((v / 0.03) ** 2))
    side = np.abs(np.sin(np.pi * pattern.density * (u - 0.6 * np.abs(v))))
    clouds, thickness = marbling(pattern, x, y)
    return np.clip(0.6 * midrib + 0.35 * np.exp(-((side / 0.12) ** 2)) + 0.5 * clouds, 0, 1).astype(
        np.float32
    ), thickness


PATTERNS: dict[str, Painter] = {
    painter.__name__: painter for painter in (bands, rings, spots, striae, veins, scales, fur, marbling, leaf)
}
