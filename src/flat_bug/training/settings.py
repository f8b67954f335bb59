"""Settings of a training run: ours, and ultralytics' own keys passed through."""

import difflib
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Self

import yaml
from pydantic import Field, field_validator

from flat_bug.config import IGNORED, Settings
from flat_bug.errors import ConfigError
from flat_bug.training.environment import check_parts

OURS = "fb_"


class TrainSettings(Settings):
    """How a segmenter is trained.

    Keys of flat-bug's configurations are understood. Every other key of ultralytics is kept in ``ultralytics``, and is
    written in YAML at the top level like the rest.
    """

    model: str = Field("yolo11n-seg.yaml", description="An architecture (.yaml, random start) or weights (.pt).")
    imgsz: int = Field(320, ge=32, multiple_of=32, description="Side of the training window in pixels.")
    batch: int = Field(32, ge=1)
    epochs: int = Field(100, ge=1)
    time: float | None = Field(None, gt=0, description="Hours to train for; the schedule adapts to it.")
    patience: int = Field(100, ge=0, description="Epochs without progress after which to stop; 0 is never.")
    optimizer: str = "AdamW"
    lr0: float = Field(0.002, gt=0)
    lrf: float = Field(0.01, gt=0)
    save_period: int = 5
    workers: int = Field(2, ge=0)
    cache: bool | str = False
    device: str | int | list[int] | None = None
    project: str = "runs"
    name: str = "train"
    seed: int = 0
    fb_max_instances: int = Field(150, description="Most animals in one tile.")
    fb_max_images: int = Field(-1, description="Use the first n images of each split only.")
    fb_exclude_datasets: tuple[str, ...] = Field((), description="Datasets to leave out, by exact name.")
    fb_tiles_per_dataset: int = Field(2000, ge=1, description="Most training tiles of one dataset.")
    fb_val_tiles: int = Field(300, ge=1, description="Most validation tiles, shared by the datasets.")
    fb_background: float = Field(0.1, ge=0, lt=1, description="Share of tiles without animals.")
    fb_pyramid_step: float = Field(1.5, gt=1, description="Each level is this much smaller than the one before.")
    fb_margin: float = Field(1.4, ge=1, description="Tiles are cut this much larger, for rotation without corners.")
    fb_samples_per_epoch: int = Field(-1, description="Tiles drawn in one epoch; by default as many as there are.")
    fb_balance: float = Field(
        0.5, ge=0, le=1, description="0: every tile is drawn as often; 1: every dataset is drawn as often."
    )
    fb_threads: int = Field(0, ge=0, description="Threads of the network on a CPU; 0 is all cores.")
    fb_export_tile: int = Field(640, ge=32, multiple_of=32, description="Side of the tiles that prediction is to cut.")
    ultralytics: dict[str, Any] = Field(default_factory=dict, description="Other keys of ultralytics.")

    not_for_users: ClassVar[frozenset[str]] = frozenset(
        {"data", "mode", "task", "resume", "save_dir", "exist_ok", "cfg"}
    )

    @property
    def tile_side(self) -> int:
        """Side of the training tiles in pixels: the window with a margin for rotation."""
        return round(self.imgsz * self.fb_margin / 32) * 32

    def for_ultralytics(self) -> dict[str, Any]:
        """Return the settings that ultralytics takes as they are."""
        not_passed = ("project", "name")
        return {
            key: value
            for key, value in self.to_mapping().items()
            if not key.startswith(OURS) and key not in not_passed and value is not None
        }

    def weight_files(self) -> list[Path]:
        """Return the files that training would open as checkpoints: pickles, which can run any code."""
        named = [self.ultralytics.get("pretrained"), self.ultralytics.get("distill_model")]
        # Not only what ends in ".pt": ultralytics opens "x.PT", too, and takes "yolo11n-seg" for a file in this folder.
        if Path(self.model).suffix not in (".yaml", ".yml"):
            named.append(self.model)
        return [Path(name) for name in named if isinstance(name, str)]

    @field_validator("fb_max_instances", "fb_max_images", "fb_samples_per_epoch")
    @classmethod
    def _not_zero(cls, value: int) -> int:
        if value == 0:
            raise ValueError("0 has no meaning; use -1 for no limit")
        return value

    @field_validator("name")
    @classmethod
    def _one_folder(cls, value: str) -> str:
        if Path(value).name != value:
            raise ValueError("a name is the name of one folder; where it lies is the project")
        return value

    @field_validator("device")
    @classmethod
    def _one_device(cls, value: str | int | list[int] | None) -> str | int | list[int] | None:
        if (isinstance(value, list) and len(value) > 1) or (isinstance(value, str) and "," in value):
            # Ultralytics would start other processes, with its own trainer instead of ours.
            raise ValueError("training runs on one device; train several models side by side instead")
        return value

    @classmethod
    def from_mapping(cls, values: dict[str, Any], *, where: str | Path = "") -> Self:
        """Check a mapping of our keys and ultralytics' keys.

        Raises:
            ConfigError: A key is unknown, here and to ultralytics, or a value is impossible.
        """
        others = ultralytics_keys() - cls.not_for_users - set(cls.model_fields)
        known = others | set(cls.model_fields) | set(cls.legacy_names())
        for key in values:
            if key not in known:
                nearest = difflib.get_close_matches(str(key), sorted(known), n=1)
                hint = f"Did you mean {nearest[0]!r}?" if nearest else "Run fb train --help for the keys."
                raise ConfigError(f"unknown setting {key!r}", where=where, mend=hint)
        ours = {key: value for key, value in values.items() if key not in others}
        passed = {key: value for key, value in values.items() if key in others}
        if passed:
            ours["ultralytics"] = ours.get("ultralytics", {}) | passed
        return super().from_mapping(ours, where=where)

    def to_mapping(self) -> dict[str, Any]:
        """Return every setting at one level, as in a YAML file, with our defaults for ultralytics' keys."""
        ours = self.model_dump(mode="json")
        passed: dict[str, Any] = ours.pop("ultralytics")
        return DEFAULTS | passed | ours

    @classmethod
    def legacy_names(cls) -> dict[str, str]:
        """Return keys of flat-bug's training configurations that have lost their meaning."""
        return {"fb_custom_eval": IGNORED, "fb_custom_eval_num_images": IGNORED, "fb_allow_dirty": IGNORED}


DEFAULTS: dict[str, Any] = {
    # Animals lie at any angle and are seen from above.
    "degrees": 180.0,
    "flipud": 0.5,
    "fliplr": 0.5,
    "scale": 0.25,
    "translate": 0.1,
    "hsv_h": 0.02,
    "hsv_s": 0.5,
    "hsv_v": 0.35,
    "mosaic": 0.3,
    "close_mosaic": 3,
    "cos_lr": True,
    "warmup_epochs": 1.0,
    "warmup_bias_lr": 0.01,
    "nbs": 32,
    # Two animals that touch keep their own mask each.
    "overlap_mask": False,
    "max_det": 500,
    "plots": False,
    "amp": True,
}


def ultralytics_keys() -> set[str]:
    """Return every setting that the installed ultralytics knows, without importing it.

    Raises:
        MissingPartError: ultralytics is not installed.
    """
    check_parts()
    # Importing ultralytics takes seconds, and it reads its environment when it is.
    package = find_spec("ultralytics")
    defaults = Path(str(package and package.origin)).parent / "cfg" / "default.yaml"
    return set(yaml.safe_load(defaults.read_text(encoding="utf-8")))
