"""What the task that predicts a share of many images takes and leaves, without what it needs to do it."""

from pathlib import Path
from typing import Literal

from pydantic import Field, JsonValue, NonNegativeInt, PositiveInt

from flat_bug.config import PredictSettings
from flat_bug.experiments.node_path import NodePath
from flat_bug.experiments.plan import Frozen

CALL = "predict-images"
FINISHED = "finished.json"
"""What became of each image of the share, in the attempt folder."""
TABLES = "tables"
"""Folder in it of JSON that the results of all images need, and nobody wants to keep."""


class PredictImages(Frozen):
    """The arguments of the task; every path is text of a ``NodePath``.

    Attributes:
        images: File that names all images of the run.
        first: Position of the first one of this share.
        count: How many there are in it.
        output: Folder for the results, that of all tasks.
        weights: Weight file.
        card: Its card, if it has one.
        devices: Where the networks run.
        jobs: Processes at a time; by default one for each device.
        trust_weights: Open a ``.pt`` file, which can run any code.
        predict: Settings of the prediction.
        write: What is written, and how it is arranged.
    """

    images: str
    first: NonNegativeInt
    count: PositiveInt
    output: str
    weights: str
    card: str | None = None
    devices: tuple[str, ...] = ("auto",)
    jobs: PositiveInt | Literal["auto"] | None = None
    trust_weights: bool = False
    predict: dict[str, JsonValue] = Field(default_factory=dict)
    write: dict[str, JsonValue] = Field(default_factory=dict)

    def predict_settings(self) -> PredictSettings:
        """Return the settings of the prediction."""
        return PredictSettings.from_mapping(dict(self.predict), where="the plan")

    def folder(self) -> Path:
        """Return the folder for the results."""
        return NodePath(self.output).resolve()


class Predicted(Frozen):
    """The figures that the task leaves in its record.

    Attributes:
        images: How many the share has.
        skipped: How many were done before, by an earlier attempt or run.
        failed: How many failed.
        instances: How many animals there are.
        megapixels: Of those that were predicted in this attempt.
        predict_seconds: Time for them, all processes together.
    """

    images: int
    skipped: int
    failed: int
    instances: int
    megapixels: float
    predict_seconds: float
