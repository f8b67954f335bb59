"""Body plans of moths: wings spread, held as a delta, or folded like a roof."""

from typing import Any

import numpy as np
import shapely

from flat_bug.datasets.synthetic.anatomy import antennae, legs, mix, pattern, tint, wear, wing_pair, wing_shape
from flat_bug.datasets.synthetic.shapes import Colour, Figure, Part, Points, curve, ellipse, profile


def _body(rng: np.random.Generator, colour: Colour, stout: float) -> tuple[Part, ...]:
    furry = pattern(rng, "fur", tint(colour, 0.5), 3)
    abdomen = profile([-0.1, 0.05, 0.25, 0.42, 0.5], np.array([0.07, 0.1, 0.09, 0.06, 0.01]) * stout)
    return (
        Part(abdomen, colour, relief=0.6, pattern=pattern(rng, "rings", tint(colour, 0.55), 8)),
        Part(ellipse(0, -0.2, 0.105 * stout, 0.16), tint(colour, 0.9), relief=0.5, pattern=furry),
        Part(ellipse(0, -0.39, 0.07 * stout, 0.055), tint(colour, 0.75), relief=0.5, pattern=furry),
    )


def _feelers(rng: np.random.Generator, colour: Colour) -> Part:
    width = rng.choice([0.014, 0.02, 0.06], p=[0.5, 0.35, 0.15])
    feelers = antennae(rng, (0.03, -0.42), rng.uniform(0.25, 0.55), float(width))
    walking = legs(rng, [(0.08, -0.28), (0.09, -0.2)], (-0.9, -0.3), (0.35, 0.4), 0.025, lost=0.5)
    return Part(shapely.union(feelers, walking), tint(colour, 0.6))


def _scaled(
    rng: np.random.Generator,
    shape: tuple[Any, Points],
    ground: Colour,
    dark: Colour,
) -> Part:
    painted = pattern(rng, "scales", dark, float(rng.integers(2, 6)), shape[1])
    return Part(shape[0], ground, relief=0.12, pattern=painted)


def moth(rng: np.random.Generator, wardrobe: str) -> Figure:
    """Draw a moth with its four wings spread flat."""
    ground = wear(rng, wardrobe)
    dark = mix(tint(ground, 0.3), wear(rng, wardrobe), rng.uniform(0, 0.5))
    sweep = rng.uniform(-0.1, 0.75)
    long, wide = rng.uniform(0.7, 1.15), rng.uniform(0.36, 0.55)
    scallop = rng.choice([0.0, 0.03, 0.08])
    fore = wing_shape((0.05, -0.26), sweep, long, wide, corner=rng.uniform(0.7, 0.95), scallop=scallop)
    hind = wing_shape(
        (0.04, -0.08), sweep + rng.uniform(0.45, 0.75), 0.72 * long, 1.1 * wide, corner=0.8, scallop=scallop
    )
    back = wear(rng, wardrobe) if rng.random() < 0.3 else tint(ground, rng.uniform(0.8, 1.25))
    parts = (
        _feelers(rng, tint(ground, 0.7)),
        *wing_pair(_scaled(rng, hind, back, mix(dark, back, 0.3))),
        *wing_pair(_scaled(rng, fore, ground, dark)),
        *_body(rng, mix(ground, dark, rng.uniform(0, 0.5)), rng.uniform(0.75, 1.3)),
    )
    return Figure("moth", parts)


def delta_moth(rng: np.random.Generator, wardrobe: str) -> Figure:
    """Draw a moth at rest, its forewings a triangle that hides the body."""
    ground = wear(rng, wardrobe)
    dark = mix(tint(ground, 0.35), wear(rng, wardrobe), rng.uniform(0, 0.4))
    sweep = rng.uniform(0.85, 1.3)
    long, wide = rng.uniform(0.85, 1.0), rng.uniform(0.42, 0.6)
    fore = wing_shape(
        (0.035, -0.3), sweep, long, wide, corner=rng.uniform(0.8, 1.0), scallop=rng.choice([0.0, 0.04, 0.08])
    )
    hind = wing_shape((0.03, -0.1), sweep + 0.2, 0.7 * long, wide, corner=0.8)
    parts = (
        _feelers(rng, tint(ground, 0.6)),
        *wing_pair(_scaled(rng, hind, tint(ground, 1.15), dark)),
        _body(rng, mix(ground, dark, 0.3), 0.9)[0],
        *wing_pair(_scaled(rng, fore, ground, dark)),
        *_body(rng, mix(ground, dark, 0.4), rng.uniform(0.8, 1.1))[1:],
    )
    return Figure("delta_moth", parts)


def roof_moth(rng: np.random.Generator, wardrobe: str) -> Figure:
    """Draw a small moth or a caddisfly with its wings folded along the body like a roof."""
    ground = wear(rng, wardrobe)
    dark = tint(ground, rng.uniform(0.25, 0.6))
    wide = rng.uniform(0.09, 0.2)
    blunt = rng.uniform(0.45, 0.95)
    side = curve([(0.55, -0.33), (0.95, -0.2), (1.05, 0.05), (0.95, 0.3), (blunt, 0.48)], closed=False)
    half = np.concatenate([[(0.0, -0.34)], side, [(0.0, rng.uniform(0.4, 0.5))]]) * (wide, 1.0)
    frame = np.array([[0.0, -0.34], [0.0, 0.5], [wide, -0.34]])
    wing = Part(
        shapely.polygons(half),
        ground,
        relief=0.35,
        pattern=pattern(rng, "scales", dark, float(rng.integers(1, 5)), frame),
    )
    roots = [(0.5 * wide, -0.3), (0.6 * wide, -0.2), (0.7 * wide, -0.05)]
    walking = legs(rng, roots, (-0.8, -0.1, 0.8), (0.3, 0.35, 0.45), 0.022, lost=0.15)
    feelers = antennae(rng, (0.02, -0.44), rng.uniform(0.25, 0.9), 0.014)
    parts = (
        Part(shapely.union(walking, feelers), tint(ground, 0.6)),
        Part(ellipse(0, -0.4, 0.55 * wide + 0.02, 0.075), tint(ground, 0.75), relief=0.5),
        *wing_pair(wing),
    )
    return Figure("roof_moth", parts)
