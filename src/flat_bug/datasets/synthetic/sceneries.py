"""The recipes of the datasets: which ground, which animals, how large and how many, and what camera."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from flat_bug.datasets.synthetic import crawlers, grounds, insects, moths
from flat_bug.datasets.synthetic.shapes import Figure

PLANS: dict[str, Callable[[np.random.Generator, str], Figure]] = {
    plan.__name__: plan
    for plan in (
        insects.fly,
        insects.midge,
        insects.beetle,
        insects.wasp,
        insects.ant,
        insects.bee,
        insects.bug,
        insects.thrips,
        moths.moth,
        moths.delta_moth,
        moths.roof_moth,
        crawlers.spider,
        crawlers.harvestman,
        crawlers.mite,
        crawlers.springtail,
    )
}


@dataclass(frozen=True)
class Camera:
    """How a scene is taken; each pair is the range that an image draws from.

    Args:
        blur: Deviation of the lens blur in pixels.
        noise: Deviation of the sensor noise, of full scale.
        sharpening: Strength of the camera's own sharpening.
        quality: JPEG quality.
        grey: Whether colours are dropped.
    """

    blur: tuple[float, float] = (0.0, 0.8)
    noise: tuple[float, float] = (0.002, 0.018)
    sharpening: tuple[float, float] = (0.0, 0.6)
    quality: tuple[int, int] = (82, 95)
    grey: bool = False


@dataclass(frozen=True)
class Scenery:
    """The recipe of one dataset.

    Args:
        name: Of the dataset's folder.
        description: For the dataset's COCO ``info``.
        size: Width and height in pixels.
        ground: Paints the empty scene.
        plans: Body plans and their weights.
        wardrobes: Names of colour sets and their weights.
        animal_size: Median, log-deviation, smallest and largest ``sqrt(width * height)`` of an animal's box, in pixels.
        per_megapixel: Range of the number of animals.
        clumping: Chance that an animal is put beside another.
        litter: Kinds of litter and their weights.
        litter_per_megapixel: Range of the number of pieces.
        litter_size: Median, log-deviation, smallest and largest length, in pixels.
        shadow: Range of the drop shadows' darkness.
        camera: How it is taken.
    """

    name: str
    description: str
    size: tuple[int, int]
    ground: Callable[[np.random.Generator, int, int], grounds.Ground]
    plans: Mapping[str, float]
    wardrobes: Mapping[str, float]
    animal_size: tuple[float, float, float, float]
    per_megapixel: tuple[float, float]
    clumping: float
    litter: Mapping[str, float]
    litter_per_megapixel: tuple[float, float]
    litter_size: tuple[float, float, float, float]
    shadow: tuple[float, float]
    camera: Camera


SCENERIES: dict[str, Scenery] = {
    scenery.name: scenery
    for scenery in (
        Scenery(
            name="sticky_card",
            description="yellow and blue sticky traps, photographed",
            size=(1200, 1200),
            ground=grounds.sticky_card,
            plans={
                "fly": 4,
                "midge": 4,
                "thrips": 1.5,
                "wasp": 1.5,
                "beetle": 1.2,
                "bug": 1.5,
                "ant": 0.5,
                "roof_moth": 0.5,
                "spider": 0.3,
            },
            wardrobes={"dark": 1},
            animal_size=(25, 0.55, 8, 190),
            per_megapixel=(8, 130),
            clumping=0.12,
            litter={"droplet": 5, "crumb": 4, "blade": 0.5, "fibre": 0.7, "seed": 0.6, "pollen": 0.5, "twig": 0.15},
            litter_per_megapixel=(20, 220),
            litter_size=(9, 0.7, 2, 120),
            shadow=(0.0, 0.35),
            camera=Camera(),
        ),
        Scenery(
            name="light-sheet",
            description="moths and their company on white cloth before a lamp, photographed at night",
            size=(1440, 1080),
            ground=grounds.light_sheet,
            plans={
                "moth": 4,
                "delta_moth": 4,
                "roof_moth": 4,
                "midge": 1.2,
                "beetle": 0.8,
                "fly": 0.6,
                "bug": 0.5,
                "wasp": 0.4,
            },
            wardrobes={"moth": 1},
            animal_size=(75, 0.75, 12, 500),
            per_megapixel=(3, 40),
            clumping=0.15,
            litter={"crumb": 4, "fibre": 1.5, "seed": 0.5, "pollen": 0.3},
            litter_per_megapixel=(0, 60),
            litter_size=(6, 0.6, 2, 60),
            shadow=(0.1, 0.5),
            camera=Camera(sharpening=(0.0, 1.8)),
        ),
        Scenery(
            name="petri-dish",
            description="harvestmen, spiders, mites and springtails in a dish, lit from below or above",
            size=(1200, 1200),
            ground=grounds.petri_dish,
            plans={
                "springtail": 4,
                "harvestman": 2,
                "spider": 2,
                "mite": 2,
                "midge": 0.6,
                "beetle": 0.6,
                "thrips": 0.8,
            },
            wardrobes={"amber": 1},
            animal_size=(70, 0.7, 12, 480),
            per_megapixel=(4, 45),
            clumping=0.3,
            litter={"crumb": 2, "fibre": 3, "scratch": 1, "pollen": 0.5, "twig": 0.4},
            litter_per_megapixel=(5, 80),
            litter_size=(8, 0.8, 2, 140),
            shadow=(0.0, 0.2),
            camera=Camera(blur=(0.2, 1.1)),
        ),
        Scenery(
            name="scanner-tray",
            description="animals laid out on a flatbed scanner or in a drawer, with rulers and labels",
            size=(1400, 1100),
            ground=grounds.scanner_tray,
            plans={
                "beetle": 5,
                "bug": 2,
                "ant": 2,
                "wasp": 2,
                "fly": 2,
                "spider": 1.5,
                "moth": 1,
                "bee": 1.5,
                "mite": 0.5,
                "harvestman": 0.4,
            },
            wardrobes={"natural": 3, "dark": 1},
            animal_size=(60, 0.8, 10, 420),
            per_megapixel=(3, 60),
            clumping=0.2,
            litter={"crumb": 3, "fibre": 2, "seed": 1, "twig": 0.6, "blade": 0.4},
            litter_per_megapixel=(2, 60),
            litter_size=(10, 0.8, 2, 120),
            shadow=(0.05, 0.4),
            camera=Camera(noise=(0.001, 0.008), blur=(0.0, 0.9)),
        ),
        Scenery(
            name="leaf-litter",
            description="ground dwellers on soil, dead leaves and twigs",
            size=(1280, 1024),
            ground=grounds.leaf_litter,
            plans={
                "beetle": 4,
                "ant": 3,
                "spider": 2.5,
                "harvestman": 0.8,
                "mite": 1.5,
                "springtail": 1.5,
                "bug": 1,
                "fly": 1,
            },
            wardrobes={"natural": 2, "dark": 2, "pale": 0.5},
            animal_size=(65, 0.65, 14, 380),
            per_megapixel=(2, 25),
            clumping=0.1,
            litter={"twig": 3, "crumb": 4, "pebble": 3, "seed": 1, "blade": 1.5, "leaf": 0.4},
            litter_per_megapixel=(30, 200),
            litter_size=(18, 0.8, 4, 220),
            shadow=(0.3, 0.65),
            camera=Camera(blur=(0.2, 1.0)),
        ),
        Scenery(
            name="ir-arena",
            description="bees, flies and beetles in a box before an infrared camera, without colour",
            size=(1280, 800),
            ground=grounds.arena,
            plans={"bee": 5, "fly": 1.5, "beetle": 2, "ant": 1.5, "wasp": 1},
            wardrobes={"black": 3, "dark": 1},
            animal_size=(95, 0.45, 20, 260),
            per_megapixel=(2, 18),
            clumping=0.25,
            litter={"crumb": 3, "droplet": 1, "fibre": 0.7},
            litter_per_megapixel=(2, 50),
            litter_size=(7, 0.7, 2, 70),
            shadow=(0.05, 0.35),
            camera=Camera(blur=(0.5, 1.4), grey=True),
        ),
    )
}
