"""Body plans of spiders, harvestmen, mites and springtails."""

import numpy as np
import shapely

from flat_bug.datasets.synthetic.anatomy import antennae, legs, mix, pattern, tint, wear
from flat_bug.datasets.synthetic.shapes import Figure, Part, curve, ellipse, limb, mirrored, profile


def spider(rng: np.random.Generator, wardrobe: str) -> Figure:
    """Draw a spider: two body parts and eight jointed legs."""
    body = wear(rng, wardrobe)
    width = rng.uniform(0.035, 0.07)
    reach = rng.uniform(0.7, 1.3) * np.array([1.1, 0.95, 0.8, 1.1])
    roots = [(0.08, -0.26), (0.1, -0.2), (0.1, -0.13), (0.08, -0.07)]
    walking = legs(rng, roots, (-1.0, -0.45, 0.3, 0.9), list(reach), width, knee=1.0, lost=0.06)
    palps = limb([(0.05, -0.34), (0.09, -0.45), (0.05, -0.52)], [0.05, 0.045, 0.05])
    round_ = rng.uniform(0.8, 1.25)
    abdomen = Part(
        ellipse(0, 0.22, 0.19 * round_, 0.27),
        tint(body, rng.uniform(0.7, 1.3)),
        relief=0.8,
        gloss=0.15,
        pattern=pattern(rng, str(rng.choice(["marbling", "spots", "bands"])), tint(body, 0.4), 3),
    )
    parts = (
        Part(shapely.union_all([walking, palps, mirrored(palps)]), tint(body, 0.8)),
        abdomen,
        Part(ellipse(0, -0.19, 0.135, 0.18), tint(body, 0.75), relief=0.7, gloss=0.2),
    )
    return Figure("spider", parts)


def harvestman(rng: np.random.Generator, wardrobe: str) -> Figure:
    """Draw a harvestman: one oval body and eight very long, thin legs with curling ends."""
    body = wear(rng, wardrobe)
    thick = rng.uniform(0.05, 0.09)
    shapes = []
    for side in (1.0, -1.0):
        for number, direction in enumerate((-1.1, -0.5, 0.25, 0.9)):
            if rng.random() < 0.22:
                continue
            shape = _long_leg(rng, (0.14, -0.25 + 0.1 * number), direction, rng.uniform(1.2, 2.6), thick)
            shapes.append(shape if side > 0 else mirrored(shape))
    oval = profile([-0.5, -0.38, -0.1, 0.25, 0.5], np.array([0.1, 0.24, 0.3, 0.3, 0.08]) * rng.uniform(0.75, 1.1))
    parts = (
        *([Part(shapely.union_all(shapes), mix(body, (0.5, 0.36, 0.2), 0.3))] if shapes else []),
        Part(oval, tint(body, 0.75), relief=0.6, gloss=0.05, pattern=pattern(rng, "rings", tint(body, 0.35), 8)),
    )
    return Figure("harvestman", parts)


def _long_leg(
    rng: np.random.Generator, root: tuple[float, float], direction: float, length: float, width: float
) -> object:
    angle = direction + 0.2 * rng.normal()
    knee = rng.choice([-1.0, 1.0]) * rng.uniform(0.9, 2.3)
    hip = np.array(root)
    elbow = hip + 0.34 * length * np.array([np.cos(angle), np.sin(angle)])
    shin = elbow + 0.3 * length * np.array([np.cos(angle + knee), np.sin(angle + knee)])
    turn, curl = angle + knee, -np.sign(knee) * rng.uniform(0.1, 0.75)
    tarsus = [shin]
    for _ in range(6):
        turn += curl
        tarsus.append(tarsus[-1] + 0.06 * length * np.array([np.cos(turn), np.sin(turn)]))
    thin = limb(curve(tarsus, closed=False, steps=3), 0.28 * width)
    return shapely.union(limb([hip, elbow, shin], width * np.array([1.0, 0.75, 0.4])), thin)


def mite(rng: np.random.Generator, wardrobe: str) -> Figure:
    """Draw a mite: a round shiny body on eight stubs."""
    body = mix(wear(rng, wardrobe), (0.5, 0.2, 0.1), rng.choice([0.0, 0.4]))
    roots = [(0.2, -0.25), (0.26, -0.15), (0.26, 0.02), (0.22, 0.14)]
    stubs = legs(rng, roots, (-0.9, -0.4, 0.3, 0.8), (0.36, 0.3, 0.3, 0.36), 0.06, knee=0.5)
    oval = profile([-0.5, -0.38, -0.1, 0.2, 0.45], np.array([0.08, 0.2, 0.3, 0.32, 0.16]) * rng.uniform(0.8, 1.2))
    parts = (
        Part(stubs, tint(body, 0.8)),
        Part(oval, body, relief=0.8, gloss=0.4, pattern=pattern(rng, "marbling", tint(body, 0.6), 3)),
    )
    return Figure("mite", parts)


def springtail(rng: np.random.Generator, wardrobe: str) -> Figure:
    """Draw a springtail: a segmented cylinder with short legs, antennae and a fork behind."""
    body = wear(rng, wardrobe)
    wide = rng.uniform(0.75, 1.25)
    y = np.linspace(-0.34, 0.42, 12)
    bulge = 0.1 + 0.012 * np.cos(np.arange(12) * np.pi)
    trunk = profile(y, wide * bulge * np.interp(y, [-0.34, -0.2, 0.2, 0.42], [0.7, 1.0, 1.1, 0.4]))
    roots = [(0.07, -0.22), (0.08, -0.1), (0.08, 0.02)]
    walking = legs(rng, roots, (-0.5, 0.1, 0.6), (0.2, 0.2, 0.22), 0.03, knee=0.6)
    feelers = antennae(rng, (0.04, -0.44), rng.uniform(0.18, 0.34), 0.035)
    fork = limb([(0.02, 0.38), (0.05, 0.5), (0.04, 0.6)], [0.04, 0.03, 0.015])
    shapes = [walking, feelers, *([fork, mirrored(fork)] if rng.random() < 0.5 else [])]
    parts = (
        Part(shapely.union_all(shapes), tint(body, 0.85)),
        Part(trunk, body, relief=0.5, gloss=0.15, pattern=pattern(rng, "rings", tint(body, 0.6), 9)),
        Part(ellipse(0, -0.39, 0.075 * wide, 0.085), tint(body, 0.95), relief=0.5),
        Part(ellipse(0.03, -0.42, 0.018, 0.02), tint(body, 0.25)),
        Part(ellipse(-0.03, -0.42, 0.018, 0.02), tint(body, 0.25)),
    )
    return Figure("springtail", parts)
