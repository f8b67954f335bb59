"""Body plans of insects, head towards negative y, length about 1; see ``anatomy`` for the parts they share."""

import numpy as np
import shapely

from flat_bug.datasets.synthetic.anatomy import (
    antennae,
    elbowed_antennae,
    legs,
    mix,
    pattern,
    tint,
    wear,
    wing_pair,
    wing_shape,
)
from flat_bug.datasets.synthetic.shapes import Colour, Figure, Part, Points, ellipse, limb, profile

BLACK: Colour = (0.05, 0.04, 0.04)
SMOKE: Colour = (0.42, 0.38, 0.32)


def _eyes(rng: np.random.Generator, x: float, y: float, radius: float, dark: Colour) -> Part:
    colour = mix(dark, (0.45, 0.10, 0.06), rng.choice([0.0, 0.0, 0.6]))
    shape = shapely.union_all([ellipse(x, y, radius, 1.2 * radius), ellipse(-x, y, radius, 1.2 * radius)])
    return Part(shape, colour, relief=0.8, gloss=0.5)


def fly(rng: np.random.Generator, wardrobe: str) -> Figure:
    """Draw a fly: big eyes, stout thorax, two wings held out or back."""
    body = wear(rng, wardrobe)
    stout = rng.uniform(0.85, 1.25)
    sweep = rng.uniform(0.35, 1.35)
    wing, frame = wing_shape((0.07, -0.17), sweep, rng.uniform(0.6, 0.8), rng.uniform(0.24, 0.32))
    veined = pattern(rng, "veins", tint(SMOKE, 0.5), rng.uniform(2, 3.5), frame)
    wings = Part(wing, tint(SMOKE, rng.uniform(0.7, 1.5)), opacity=rng.uniform(0.3, 0.6), pattern=veined)
    roots = [(0.08, -0.24), (0.10, -0.16), (0.09, -0.06)]
    walking = legs(rng, roots, (-0.8, 0.1, 0.75), (0.55, 0.6, 0.75), rng.uniform(0.025, 0.05))
    abdomen = profile([-0.02, 0.1, 0.28, 0.42, 0.5], np.array([0.08, 0.16, 0.15, 0.09, 0.02]) * stout)
    parts = (
        Part(walking, tint(body, 0.7)),
        Part(abdomen, body, relief=0.7, gloss=0.2, pattern=pattern(rng, "rings", tint(body, 0.4), 7)),
        Part(ellipse(0, -0.15, 0.14 * stout, 0.17), tint(body, 0.85), relief=0.8, gloss=0.3),
        Part(ellipse(0, -0.37, 0.13 * stout, 0.085), tint(body, 0.9), relief=0.6),
        _eyes(rng, 0.085 * stout, -0.38, 0.055, tint(body, 0.7)),
        *wing_pair(wings),
    )
    return Figure("fly", parts)


def midge(rng: np.random.Generator, wardrobe: str) -> Figure:
    """Draw a midge or a gnat: thin body, long thin legs, narrow wings."""
    body = wear(rng, wardrobe)
    wing, frame = wing_shape((0.03, -0.25), rng.uniform(0.3, 1.3), rng.uniform(0.55, 0.75), 0.15)
    wings = Part(
        wing, tint(SMOKE, 1.2), opacity=rng.uniform(0.2, 0.4), pattern=pattern(rng, "veins", SMOKE, 2.0, frame)
    )
    width = rng.uniform(0.014, 0.03)
    roots = [(0.04, -0.30), (0.05, -0.24), (0.05, -0.18)]
    long = rng.uniform(0.6, 1.1)
    walking = legs(rng, roots, (-0.7, 0.15, 0.8), (long, long, 1.15 * long), width, knee=1.0, lost=0.1)
    abdomen = profile([-0.15, 0.0, 0.3, 0.46, 0.5], [0.03, 0.055, 0.055, 0.04, 0.01])
    parts = (
        Part(shapely.union(walking, antennae(rng, (0.03, -0.42), 0.25, width)), tint(body, 0.8)),
        Part(abdomen, body, relief=0.6, pattern=pattern(rng, "rings", tint(body, 0.45), 8)),
        Part(ellipse(0, -0.24, 0.075, 0.11), tint(body, 0.75), relief=0.7, gloss=0.1),
        Part(ellipse(0, -0.40, 0.05, 0.045), tint(body, 0.7), relief=0.5),
        *wing_pair(wings),
    )
    return Figure("midge", parts)


def beetle(rng: np.random.Generator, wardrobe: str) -> Figure:
    """Draw a beetle: two glossy elytra, pronotum, short stout legs."""
    body = wear(rng, wardrobe)
    wide, waist = rng.uniform(0.16, 0.34), rng.uniform(0.75, 0.98)
    side = [(0.004, -0.14), (0.75, -0.14), (1.0, 0.05), (0.95, 0.25), (0.55, 0.44), (0.004, 0.5)]
    from_side = np.array(side) * (wide, 1.0)
    elytron = shapely.polygons(np.concatenate([from_side[:1], _rounded(from_side[1:-1]), from_side[-1:]]))
    frame = np.array([[0.0, -0.14], [0.0, 0.5], [wide, -0.14]])
    kind = rng.choice(["striae", "spots", "marbling", "fur"], p=[0.55, 0.2, 0.15, 0.1])
    second = tint(body, 0.35) if kind == "striae" else mix(wear(rng, wardrobe), BLACK, rng.uniform(0.0, 0.6))
    painted = pattern(rng, str(kind), second, float(rng.integers(3, 9)), frame)
    cover = Part(elytron, body, relief=0.75, gloss=rng.uniform(0.1, 0.6), pattern=painted)
    roots = [(0.5 * wide, -0.24), (0.7 * wide, -0.08), (0.7 * wide, 0.06)]
    walking = legs(rng, roots, (-0.75, 0.1, 0.7), (0.42, 0.42, 0.52), rng.uniform(0.03, 0.055), knee=0.8)
    feelers = antennae(rng, (0.04, -0.46), rng.uniform(0.15, 0.6), 0.022, club=rng.choice([1.0, 2.0]))
    pronotum = profile([-0.36, -0.30, -0.2, -0.13], np.array([0.55, 0.9, 1.0, 0.85]) * wide * waist)
    parts = (
        Part(shapely.union(walking, feelers), tint(body, 0.55)),
        Part(ellipse(0, 0.18, 0.9 * wide, 0.31), tint(body, 0.4)),
        Part(ellipse(0, -0.40, 0.48 * wide, 0.075), tint(body, 0.7), relief=0.6, gloss=0.3),
        Part(pronotum, tint(body, 0.8), relief=0.8, gloss=0.35),
        *wing_pair(cover),
    )
    return Figure("beetle", parts)


def _rounded(
    points: Points,
) -> Points:
    t = np.linspace(0, len(points) - 1, 8 * len(points))
    knots = np.arange(len(points))
    smooth = np.stack([np.interp(t, knots, points[:, axis]) for axis in (0, 1)], axis=1)
    kernel = np.ones(7) / 7
    padded = np.pad(smooth, ((3, 3), (0, 0)), mode="edge")
    return np.stack([np.convolve(padded[:, axis], kernel, mode="valid") for axis in (0, 1)], axis=1)


def wasp(rng: np.random.Generator, wardrobe: str) -> Figure:
    """Draw a wasp: thin waist, banded pointed abdomen, narrow wings, elbowed antennae."""
    body = wear(rng, wardrobe)
    stripe = mix(body, (0.85, 0.62, 0.10), rng.choice([0.0, 0.85]))
    wing, frame = wing_shape((0.06, -0.2), rng.uniform(0.3, 1.2), rng.uniform(0.5, 0.7), 0.18)
    wings = Part(wing, tint(SMOKE, 0.9), opacity=rng.uniform(0.3, 0.5), pattern=pattern(rng, "veins", BLACK, 2, frame))
    roots = [(0.06, -0.26), (0.07, -0.2), (0.06, -0.12)]
    width = rng.uniform(0.02, 0.035)
    walking = legs(rng, roots, (-0.7, 0.2, 0.8), (0.45, 0.5, 0.7), width, knee=0.9)
    abdomen = profile([0.02, 0.1, 0.22, 0.38, 0.5], [0.03, 0.1, 0.125, 0.08, 0.008])
    parts = (
        Part(shapely.union(walking, elbowed_antennae(rng, (0.03, -0.42), 0.3, width)), tint(body, 0.8)),
        Part(limb([(0, -0.08), (0, 0.06)], [0.05, 0.035]), tint(body, 0.7)),
        Part(abdomen, body, relief=0.7, gloss=0.3, pattern=pattern(rng, "bands", stripe, 5)),
        Part(ellipse(0, -0.2, 0.1, 0.14), tint(body, 0.8), relief=0.8, gloss=0.2),
        Part(ellipse(0, -0.4, 0.095, 0.07), tint(body, 0.8), relief=0.6),
        _eyes(rng, 0.07, -0.4, 0.03, tint(body, 0.6)),
        *wing_pair(wings),
    )
    return Figure("wasp", parts)


def ant(rng: np.random.Generator, wardrobe: str) -> Figure:
    """Draw an ant: three beads, the waist a thread, six long legs."""
    body = wear(rng, wardrobe)
    width = rng.uniform(0.025, 0.04)
    roots = [(0.04, -0.14), (0.04, -0.08), (0.04, -0.02)]
    walking = legs(rng, roots, (-0.8, 0.05, 0.8), (0.5, 0.5, 0.62), width, knee=0.9)
    parts = (
        Part(shapely.union(walking, elbowed_antennae(rng, (0.04, -0.42), 0.42, width)), tint(body, 0.85)),
        Part(limb([(0, 0.0), (0, 0.08), (0, 0.14)], [0.05, 0.06, 0.04]), tint(body, 0.9)),
        Part(ellipse(0, 0.31, 0.125, 0.19), tint(body, 0.8), relief=0.8, gloss=0.35),
        Part(profile([-0.24, -0.15, -0.02, 0.04], [0.05, 0.075, 0.055, 0.03]), body, relief=0.7, gloss=0.1),
        Part(profile([-0.46, -0.40, -0.3, -0.23], [0.06, 0.1, 0.095, 0.04]), tint(body, 0.9), relief=0.7, gloss=0.2),
    )
    return Figure("ant", parts)


def bee(rng: np.random.Generator, wardrobe: str) -> Figure:
    """Draw a bee or bumblebee: broad, furry, banded."""
    body = wear(rng, wardrobe)
    band = mix(body, (0.80, 0.62, 0.30), rng.choice([0.1, 0.7]))
    wing, frame = wing_shape((0.1, -0.18), rng.uniform(0.4, 1.15), 0.55, 0.2)
    wings = Part(wing, tint(SMOKE, 0.8), opacity=rng.uniform(0.3, 0.55), pattern=pattern(rng, "veins", BLACK, 2, frame))
    roots = [(0.12, -0.24), (0.14, -0.14), (0.13, -0.04)]
    walking = legs(rng, roots, (-0.7, 0.1, 0.75), (0.42, 0.45, 0.58), rng.uniform(0.045, 0.065))
    parts = (
        Part(shapely.union(walking, elbowed_antennae(rng, (0.05, -0.42), 0.26, 0.025)), tint(body, 0.6)),
        Part(
            profile([-0.03, 0.1, 0.28, 0.43, 0.5], [0.14, 0.21, 0.2, 0.12, 0.02]),
            body,
            relief=0.7,
            gloss=0.1,
            pattern=pattern(rng, "bands", band, rng.uniform(3, 5)),
        ),
        Part(ellipse(0, -0.16, 0.18, 0.17), tint(body, 0.9), relief=0.6, pattern=pattern(rng, "fur", band, 3)),
        Part(ellipse(0, -0.38, 0.125, 0.085), tint(body, 0.75), relief=0.6),
        _eyes(rng, 0.1, -0.38, 0.035, BLACK),
        *wing_pair(wings),
    )
    return Figure("bee", parts)


def bug(rng: np.random.Generator, wardrobe: str) -> Figure:
    """Draw a leafhopper, a planthopper or an aphid: a wedge with folded wings."""
    body = wear(rng, wardrobe)
    wide = rng.uniform(0.1, 0.24)
    roots = [(0.6 * wide, -0.22), (0.7 * wide, -0.12), (0.7 * wide, 0.0)]
    walking = legs(rng, roots, (-0.7, 0.2, 0.85), (0.32, 0.35, 0.55), 0.03)
    wedge = profile([-0.36, -0.25, 0.0, 0.3, 0.5], np.array([0.5, 0.95, 1.0, 0.7, 0.08]) * wide)
    kind = str(rng.choice(["marbling", "striae", "spots"]))
    parts = (
        Part(shapely.union(walking, antennae(rng, (0.03, -0.45), 0.16, 0.015)), tint(body, 0.7)),
        Part(
            profile([-0.5, -0.44, -0.36, -0.3], np.array([0.3, 0.75, 0.85, 0.6]) * wide), tint(body, 0.85), relief=0.6
        ),
        Part(wedge, body, relief=0.6, gloss=0.2, pattern=pattern(rng, kind, wear(rng, wardrobe), 4)),
    )
    return Figure("bug", parts)


def thrips(rng: np.random.Generator, wardrobe: str) -> Figure:
    """Draw a thrips or a small larva: a spindle with stub legs."""
    body = wear(rng, wardrobe)
    walking = legs(rng, [(0.04, -0.25), (0.05, -0.15), (0.05, -0.05)], (-0.6, 0.2, 0.8), (0.16, 0.16, 0.2), 0.03)
    spindle = profile([-0.5, -0.4, -0.2, 0.1, 0.35, 0.5], [0.03, 0.06, 0.08, 0.09, 0.055, 0.01])
    parts = (
        Part(shapely.union(walking, antennae(rng, (0.02, -0.48), 0.12, 0.02)), tint(body, 0.8)),
        Part(spindle, body, relief=0.6, gloss=0.1, pattern=pattern(rng, "rings", tint(body, 0.5), 10)),
    )
    return Figure("thrips", parts)
