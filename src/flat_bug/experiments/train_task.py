"""What the task that trains a model takes and leaves, without what it needs to do it."""

from pathlib import Path
from typing import Any

from pydantic import Field, JsonValue

from flat_bug.experiments.plan import Frozen
from flat_bug.training.settings import TrainSettings

CALL = "train-model"


class TrainModel(Frozen):
    """The arguments of the task; every path is text of a ``NodePath``.

    Attributes:
        tree: Folder that ``fb data prepare`` made.
        ground_truth: COCO file of its training images, which says whether the data is still the same.
        weights: Weight file that the training begins with, if it does.
        settings: How to train, all keys at one level, as in a YAML file.
        trust_weights: Open the ``.pt`` files that the settings name; they can run any code.
        command: The command line that asked for it.
    """

    tree: str
    ground_truth: str
    weights: str | None = None
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    trust_weights: bool = False
    command: str = ""

    def train_settings(self, project: Path) -> TrainSettings:
        """Return the settings of a training whose run folder is made in ``project``.

        Raises:
            ConfigError: A key is unknown, or a value is impossible.
        """
        values: dict[str, Any] = {**self.settings, "project": str(project)}
        return TrainSettings.from_mapping(values, where="the plan")


class Trained(Frozen):
    """The figures that the task leaves in its record; the scores are those of the best epoch, on single tiles.

    Attributes:
        weights: The exported weights, in the attempt folder.
        card: Their card.
        epochs: Epochs of all attempts together.
        seconds: Time for them.
        best_epoch: The epoch whose weights were exported.
        box_map50: Mean average precision of boxes at an overlap of 0.5.
        box_map50_95: The same over overlaps of 0.5 to 0.95.
        mask_map50: Mean average precision of masks at an overlap of 0.5.
        mask_map50_95: The same over overlaps of 0.5 to 0.95.
    """

    weights: str
    card: str
    epochs: int
    seconds: float
    best_epoch: int
    box_map50: float
    box_map50_95: float
    mask_map50: float
    mask_map50_95: float
