"""What body plans share: colours, legs, antennae, wings and the frames of their patterns.

Figures are drawn with the head towards negative y and a body of length about 1 around the origin; ``scene`` turns,
bends, scales and places them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import shapely

from flat_bug.datasets.synthetic.shapes import Colour, Part, Pattern, Points, curve, limb_pieces, mirrored, outline

# Colours measured by eye from traps, light sheets, dishes and drawers; a wardrobe is what one scene's animals wear.
WARDROBES: dict[str, tuple[Colour, ...]] = {
    "dark": (
        (0.06, 0.05, 0.05),
        (0.10, 0.08, 0.06),
        (0.16, 0.11, 0.06),
        (0.24, 0.16, 0.07),
        (0.09, 0.09, 0.11),
        (0.34, 0.24, 0.10),
    ),
    "natural": (
        (0.08, 0.07, 0.06),
        (0.22, 0.15, 0.10),
        (0.42, 0.28, 0.17),
        (0.55, 0.42, 0.28),
        (0.62, 0.36, 0.12),
        (0.48, 0.14, 0.08),
        (0.12, 0.22, 0.16),
        (0.36, 0.34, 0.31),
        (0.70, 0.62, 0.48),
        (0.30, 0.20, 0.24),
    ),
    "amber": ((0.13, 0.09, 0.06), (0.25, 0.16, 0.08), (0.42, 0.27, 0.12), (0.55, 0.40, 0.20), (0.07, 0.06, 0.06)),
    "pale": ((0.72, 0.76, 0.74), (0.62, 0.68, 0.67), (0.80, 0.80, 0.74), (0.55, 0.62, 0.63), (0.84, 0.84, 0.84)),
    "moth": (
        (0.45, 0.34, 0.27),
        (0.62, 0.50, 0.38),
        (0.78, 0.70, 0.56),
        (0.72, 0.42, 0.14),
        (0.46, 0.21, 0.13),
        (0.56, 0.45, 0.36),
        (0.30, 0.25, 0.24),
        (0.40, 0.30, 0.33),
        (0.88, 0.85, 0.76),
        (0.84, 0.62, 0.20),
        (0.58, 0.66, 0.46),
        (0.15, 0.13, 0.14),
        (0.50, 0.47, 0.46),
    ),
    "black": ((0.05, 0.05, 0.05), (0.08, 0.08, 0.08), (0.12, 0.12, 0.12)),
}

BODY_FRAME = np.array([[0.0, -0.5], [0.0, 0.5], [0.5, -0.5]])


def wear(rng: np.random.Generator, wardrobe: str, spread: float = 0.15) -> Colour:
    """Return a colour of the wardrobe, a little lighter or darker and off its hue."""
    colours = WARDROBES[wardrobe]
    return tint(colours[rng.integers(len(colours))], float(np.exp(spread * rng.normal())), rng, 0.03)


def tint(colour: Colour, factor: float, rng: np.random.Generator | None = None, hue: float = 0.0) -> Colour:
    """Return the colour brightened by a factor, each channel off by up to about ``hue`` of itself."""
    off = 1 + hue * rng.normal(size=3) if rng is not None else np.ones(3)
    red, green, blue = np.clip(np.asarray(colour) * factor * off, 0.0, 1.0)
    return float(red), float(green), float(blue)


def mix(one: Colour, other: Colour, share: float) -> Colour:
    """Return a colour between two; ``share`` is that of the other."""
    red, green, blue = np.asarray(one) * (1 - share) + np.asarray(other) * share
    return float(red), float(green), float(blue)


def pattern(
    rng: np.random.Generator, kind: str, colour: Colour, density: float = 4.0, frame: Points = BODY_FRAME
) -> Pattern:
    """Return a pattern with a seed of its own."""
    return Pattern(kind, colour, frame, int(rng.integers(2**31)), density)


def legs(
    rng: np.random.Generator,
    roots: Sequence[tuple[float, float]],
    directions: Sequence[float],
    reach: Sequence[float],
    width: float,
    *,
    knee: float = 0.7,
    lost: float = 0.04,
) -> Any:
    """Return the legs of both sides as one shape.

    Args:
        rng: Source of the posture.
        roots: Where the right legs leave the body, from front to back.
        directions: Of the right legs' first long segment: 0 is sideways, negative is forward, in radians.
        reach: Length of each leg.
        width: Of the leg at its root; it tapers to a third.
        knee: How far the knee bends, in radians; the front legs bend forward, the others backward.
        lost: Chance that a leg is missing.
    """
    shapes = []
    for side in (1.0, -1.0):
        for (x, y), direction, length in zip(roots, directions, reach, strict=True):
            if rng.random() < lost:
                continue
            angle = direction + 0.18 * rng.normal()
            bend = knee * (1 + 0.35 * rng.normal()) * (1 if direction > -0.25 else -1)
            joints: list[Points] = [np.array([x, y])]
            turns = (0.0, -0.35 * bend, bend, 0.25 * bend)
            for turn, share in zip(turns, (0.12, 0.38, 0.32, 0.18), strict=True):
                angle += turn
                step = length * share * (1 + 0.08 * rng.normal())
                joints.append(joints[-1] + step * np.array([np.cos(angle), np.sin(angle)]))
            leg = limb_pieces(joints, width * np.array([1.0, 1.15, 0.9, 0.6, 0.35]))
            shapes.append(leg if side > 0 else mirrored(leg))
    return shapely.union_all(np.concatenate(shapes)) if shapes else shapely.Polygon()


def antennae(
    rng: np.random.Generator, root: tuple[float, float], length: float, width: float, *, club: float = 1.0
) -> Any:
    """Return a pair of antennae that curve outwards from the head; ``club`` widens their tips."""
    shapes = []
    spread = rng.uniform(0.25, 0.9)
    for side in (1.0, -1.0):
        angle = -np.pi / 2 + spread * (1 + 0.2 * rng.normal())
        joints: list[Points] = [np.array(root)]
        for _ in range(3):
            joints.append(joints[-1] + length / 3 * np.array([np.cos(angle), np.sin(angle)]))
            angle += 0.3 * rng.normal() + 0.12
        smooth = curve(joints, closed=False, steps=3)
        taper = width * np.linspace(1.0, 0.5, len(smooth))
        taper[-3:] *= club
        shape = limb_pieces(smooth, taper)
        shapes.append(shape if side > 0 else mirrored(shape))
    return shapely.union_all(shapes)


def elbowed_antennae(rng: np.random.Generator, root: tuple[float, float], length: float, width: float) -> Any:
    """Return a pair of antennae with the elbow of ants and wasps."""
    shapes = []
    for side in (1.0, -1.0):
        first, second = -0.9 + 0.25 * rng.normal(), -1.5 + 0.4 * rng.normal()
        elbow = np.array(root) + 0.42 * length * np.array([np.cos(first), np.sin(first)])
        tip = elbow + 0.58 * length * np.array([np.cos(second), np.sin(second)])
        shape = limb_pieces(np.array([root, elbow, tip]), width * np.array([0.8, 0.8, 1.0]))
        shapes.append(shape if side > 0 else mirrored(shape))
    return shapely.union_all(shapes)


def wing_shape(
    root: tuple[float, float], angle: float, length: float, width: float, *, corner: float = 0.75, scallop: float = 0.0
) -> tuple[Any, Points]:
    """Return a right wing and the frame of its pattern.

    Args:
        root: Where it leaves the body.
        angle: Of its long axis: 0 is sideways, positive is swept back, in radians.
        length: From root to tip.
        width: Across the long axis, at its widest.
        corner: Where along the wing it is widest, 0 to 1.
        scallop: Depth of the waves in its outer margin, as a fraction of the width.
    """
    wave = scallop * np.array([0.0, 1.0, -1.0, 1.0, 0.0])
    outer_u = np.linspace(0.99, corner * 0.92, 5) + 0.35 * wave
    outer_v = np.linspace(0.02, 0.56, 5) + 0.2 * wave
    u = np.concatenate([[0.0, 0.3, 0.65, 0.9], outer_u, [0.35, 0.02]])
    v = np.concatenate([[-0.06, -0.22, -0.30, -0.20], outer_v, [0.36, 0.10]])
    along = np.array([np.cos(angle), np.sin(angle)]) * length
    across = np.array([-np.sin(angle), np.cos(angle)]) * width
    origin = np.array(root)
    points = origin + u[:, None] * along + v[:, None] * across
    return outline(points, steps=6), np.stack([origin, origin + along, origin + across])


def wing_pair(part: Part) -> tuple[Part, Part]:
    """Return a right wing and its mirror image, which share the noise of their pattern."""
    return part, part.warped(lambda xy: xy * (-1.0, 1.0))
