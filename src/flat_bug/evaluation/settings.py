"""How predictions are compared with ground truth."""

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from flat_bug.config import IGNORED, PredictSettings, Settings


class EvaluationSettings(Settings):
    """How predictions are matched with ground truth and scored; the defaults are scorer v1.

    A configuration of ``fb predict`` or of flat-bug 1.x can be given too: of its keys only the score threshold means
    the same here. In particular, ``IOU_THRESHOLD`` of flat-bug 1.x is the overlap at which two predictions are one
    animal. It is not used for matching, where 0.2 would pass masks that hardly fit.
    """

    iou_type: Literal["mask", "box"] = Field("mask", description="Compare outlines or boxes.")
    iou_threshold: float = Field(0.5, gt=0, le=1, description="Least overlap of a prediction with its animal.")
    min_size: float = Field(32.0, ge=0, description="Smaller objects do not count; sqrt(width x height) of the box.")
    rules: Literal["coco", "bench"] = Field(
        "coco",
        description="Small objects can be matched but never count and better scores choose first, as in COCO; or small"
        " objects are taken out and better overlaps come first, as in flat-bug's benchmark.",
    )
    score_threshold: float = Field(0.0, ge=0, le=1, description="Predictions that score less do not count.")
    bootstrap_draws: PositiveInt = Field(1000, description="Draws of images for the 95 % intervals.")
    seed: NonNegativeInt = Field(0, description="Seed of the bootstrap.")
    datasets: tuple[str, ...] = Field(
        (), description="Names of datasets to recognise at the start of image names, in trees of flat-bug 1.x."
    )
    max_images: PositiveInt | None = Field(None, description="Use the first images only, by name.")
    overlays: Literal["none", "extremes", "all"] = Field(
        "none", description="Draw no images, the best and worst of each dataset, or all."
    )
    overlay_scale: float = Field(0.5, gt=0, le=1, description="Scale of the overlays.")
    overlay_boxes: bool = Field(True, description="Draw boxes around the outlines.")
    legacy_tables: bool = Field(False, description="Write the tables of flat-bug 1.x too.")
    workers: PositiveInt = Field(8, description="Images that are compared or drawn at once.")

    @classmethod
    def legacy_names(cls) -> dict[str, str]:
        """Return the keys of prediction configurations that say nothing about evaluation."""
        foreign = set(PredictSettings.model_fields) - set(cls.model_fields)
        names = foreign | {name.upper() for name in foreign} | set(PredictSettings.legacy_names())
        return dict.fromkeys(names, IGNORED)
