"""Things that lie about and are no animals: the hard negatives, drawn around the origin with a length of about 1."""

from collections.abc import Callable

import numpy as np
import shapely

from flat_bug.datasets.synthetic.anatomy import BODY_FRAME, mix, pattern, tint
from flat_bug.datasets.synthetic.shapes import Colour, Figure, Part, Warp, curve, ellipse, limb, outline, profile

SOILS: tuple[Colour, ...] = (
    (0.14, 0.10, 0.07),
    (0.30, 0.21, 0.12),
    (0.45, 0.33, 0.2),
    (0.09, 0.08, 0.08),
    (0.55, 0.5, 0.42),
)
GREENS: tuple[Colour, ...] = ((0.20, 0.33, 0.08), (0.33, 0.42, 0.14), (0.16, 0.24, 0.10), (0.45, 0.42, 0.16))
LEAVES: tuple[Colour, ...] = (
    (0.42, 0.28, 0.15),
    (0.55, 0.38, 0.2),
    (0.33, 0.2, 0.12),
    (0.5, 0.42, 0.2),
    (0.62, 0.5, 0.33),
)


def _one(rng: np.random.Generator, colours: tuple[Colour, ...]) -> Colour:
    return tint(colours[rng.integers(len(colours))], float(np.exp(0.2 * rng.normal())), rng, 0.06)


def crumb(rng: np.random.Generator) -> Figure:
    """Draw a crumb of soil or dirt: an irregular lump."""
    angle = np.linspace(0, 2 * np.pi, 9, endpoint=False)
    radius = 0.42 * np.exp(0.3 * rng.normal(size=9))
    flat = rng.uniform(0.5, 1.0)
    colour = _one(rng, SOILS)
    shape = outline(np.stack([radius * np.cos(angle) * flat, radius * np.sin(angle)], axis=1), steps=4)
    return Figure("crumb", (Part(shape, colour, relief=0.6, pattern=pattern(rng, "marbling", tint(colour, 0.5), 3)),))


def seed(rng: np.random.Generator) -> Figure:
    """Draw a seed: oval, smooth, striped or plain."""
    colour = _one(rng, SOILS + LEAVES)
    shape = profile([-0.5, -0.3, 0.1, 0.4, 0.5], np.array([0.03, 0.2, 0.28, 0.14, 0.02]) * rng.uniform(0.6, 1.2))
    kind = str(rng.choice(["striae", "marbling"]))
    return Figure(
        "seed", (Part(shape, colour, relief=0.8, gloss=0.25, pattern=pattern(rng, kind, tint(colour, 0.5), 4)),)
    )


def fibre(rng: np.random.Generator) -> Figure:
    """Draw a hair or a textile fibre: a long thin curve."""
    angle = rng.uniform(0, 2 * np.pi)
    joints = [np.zeros(2)]
    for _ in range(6):
        joints.append(joints[-1] + 0.2 * np.array([np.cos(angle), np.sin(angle)]))
        angle += 0.55 * rng.normal()
    points = curve(np.array(joints) - np.mean(joints, axis=0), closed=False, steps=6)
    colour = _one(rng, ((0.1, 0.1, 0.1), (0.5, 0.5, 0.5), (0.9, 0.9, 0.9), (0.25, 0.2, 0.5), (0.6, 0.15, 0.12)))
    return Figure("fibre", (Part(limb(points, rng.uniform(0.008, 0.025)), colour, opacity=rng.uniform(0.4, 0.9)),))


def blade(rng: np.random.Generator) -> Figure:
    """Draw a blade of grass or a bit of straw."""
    colour = _one(rng, GREENS + LEAVES)
    wide = rng.uniform(0.02, 0.07)
    shape = profile([-0.5, -0.2, 0.2, 0.5], np.array([0.3, 1.0, 0.9, 0.25]) * wide)
    frame = np.array([[0.0, -0.5], [0.0, 0.5], [wide, -0.5]])
    return Figure(
        "blade", (Part(shape, colour, relief=0.4, pattern=pattern(rng, "striae", tint(colour, 0.6), 2, frame)),)
    )


def twig(rng: np.random.Generator) -> Figure:
    """Draw a twig with a side branch, which is easily taken for legs."""
    colour = _one(rng, SOILS)
    bend = 0.06 * rng.normal(size=4)
    main = limb(
        np.stack([bend, np.linspace(-0.5, 0.5, 4)], axis=1), rng.uniform(0.03, 0.07) * np.array([1, 0.9, 0.7, 0.5])
    )
    branch = limb([(bend[1], -0.16), (rng.choice([-1, 1]) * 0.22, rng.uniform(-0.1, 0.2))], [0.03, 0.015])
    shape = shapely.union(main, branch)
    return Figure("twig", (Part(shape, colour, relief=0.5, pattern=pattern(rng, "marbling", tint(colour, 0.5), 6)),))


def leaf(rng: np.random.Generator) -> Figure:
    """Draw a dead leaf with its veins and stalk."""
    colour = _one(rng, LEAVES + GREENS[3:])
    half = np.array([0.02, 0.22, 0.34, 0.26, 0.01]) * rng.uniform(0.55, 1.15)
    shape = shapely.transform(profile([-0.5, -0.25, 0.0, 0.28, 0.5], half), _crooked(rng))
    shade = tint(colour, rng.choice([0.6, 1.35]))
    stalk = limb([(0, 0.48), (0.03, 0.58), (0.0, 0.68)], [0.02, 0.015, 0.012])
    parts = (
        Part(stalk, tint(colour, 0.7)),
        Part(shape, colour, relief=0.22, pattern=pattern(rng, "leaf", shade, float(rng.integers(5, 10)), BODY_FRAME)),
    )
    return Figure("leaf", parts)


def _crooked(rng: np.random.Generator) -> Warp:
    bend = 0.25 * rng.normal()
    return lambda xy: xy + np.stack([bend * (xy[:, 1] ** 2 - 0.1), np.zeros(len(xy))], axis=1)


def pebble(rng: np.random.Generator) -> Figure:
    """Draw a grain of sand or a pebble: angular, grey, shiny."""
    angle = np.sort(rng.uniform(0, 2 * np.pi, 8))
    points = 0.45 * np.stack([np.cos(angle), rng.uniform(0.6, 1.0) * np.sin(angle)], axis=1)
    grey = float(rng.uniform(0.25, 0.8))
    colour = tint((grey, 0.96 * grey, 0.88 * grey), 1.0, rng, 0.04)
    shape = shapely.buffer(shapely.convex_hull(shapely.multipoints(points)), 0.05)
    return Figure(
        "pebble", (Part(shape, colour, relief=0.8, gloss=0.3, pattern=pattern(rng, "marbling", tint(colour, 0.7), 4)),)
    )


def droplet(rng: np.random.Generator) -> Figure:
    """Draw a drop of water or a bubble in the glue: clear, with a dark rim and a highlight."""
    oval = ellipse(0, 0, 0.5, 0.5 * rng.uniform(0.8, 1.0))
    inner = ellipse(0.03, 0.04, 0.4, 0.38)
    shine = ellipse(-0.18, -0.2, rng.uniform(0.05, 0.1), rng.uniform(0.04, 0.08))
    glow = ellipse(0.16, 0.2, 0.22, 0.16)
    dark: Colour = (0.35, 0.27, 0.05)
    parts = (
        Part(oval, dark, opacity=rng.uniform(0.12, 0.35)),
        Part(inner, (1.0, 0.95, 0.6), opacity=rng.uniform(0.1, 0.3)),
        Part(glow, (1.0, 0.97, 0.75), opacity=rng.uniform(0.2, 0.45)),
        Part(shine, (1.0, 1.0, 0.97), opacity=rng.uniform(0.6, 0.95)),
    )
    return Figure("droplet", parts)


def pollen(rng: np.random.Generator) -> Figure:
    """Draw a cluster of pollen grains."""
    colour = mix((0.85, 0.65, 0.2), (0.6, 0.45, 0.2), rng.random())
    count = int(rng.integers(2, 7))
    grains = [ellipse(*rng.normal(0, 0.2, 2), *rng.uniform(0.1, 0.16, 2)) for _ in range(count)]
    return Figure("pollen", (Part(shapely.union_all(grains), colour, relief=0.8),))


def scratch(rng: np.random.Generator) -> Figure:
    """Draw a scratch in a table or in plastic: straight, faint, dark or bright."""
    bright = float(rng.choice([0.35, 1.0]))
    ends = np.array([[0.0, -0.5], [0.03 * rng.normal(), 0.0], [0.0, 0.5]])
    return Figure(
        "scratch", (Part(limb(ends, [0.001, 0.005, 0.001]), (bright, bright, bright), opacity=rng.uniform(0.2, 0.6)),)
    )


LITTER: dict[str, Callable[[np.random.Generator], Figure]] = {
    make.__name__: make for make in (crumb, seed, fibre, blade, twig, leaf, pebble, droplet, pollen, scratch)
}
