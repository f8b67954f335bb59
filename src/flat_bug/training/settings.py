"""Settings of a training run: ours, and ultralytics' own keys passed through."""

import difflib
import importlib.util
from pathlib import Path
from typing import Any, ClassVar, Self

import yaml
from pydantic import Field, field_validator

from flat_bug.config import Settings
from flat_bug.errors import ConfigError, MissingPartError

OURS = "fb_"


class TrainSettings(Settings):
    """How a segmenter is trained.

    Keys of flat-bug's configurations are understood. Every other key of ultralytics is passed through in
    ``ultralytics``, in YAML at the top level like the rest.
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

    @property
    def passed_on(self) -> tuple[str, ...]:
        """Names of the settings that ultralytics takes as they are."""
        not_passed = ("project", "name", "ultralytics")
        return tuple(key for key in type(self).model_fields if not key.startswith(OURS) and key not in not_passed)

    @field_validator("fb_max_instances", "fb_max_images", "fb_samples_per_epoch")
    @classmethod
    def _not_zero(cls, value: int) -> int:
        if value == 0:
            raise ValueError("0 has no meaning; use -1 for no limit")
        return value

    @classmethod
    def from_mapping(cls, values: dict[str, Any], *, where: str | Path = "") -> Self:
        """Check a mapping of our keys and ultralytics' keys.

        Raises:
            ConfigError: A key is unknown, here and to ultralytics, or a value is impossible.
        """
        others = ultralytics_keys() - cls.not_for_users - set(cls.model_fields)
        ours = {key: value for key, value in values.items() if key not in others}
        for key in ours:
            if key not in cls.model_fields:
                known = sorted(others | set(cls.model_fields))
                nearest = difflib.get_close_matches(str(key), known, n=1)
                hint = f"Did you mean {nearest[0]!r}?" if nearest else "Run fb train --help for the keys."
                raise ConfigError(f"unknown setting {key!r}", where=where, mend=hint)
        passed = dict(ours.pop("ultralytics", {})) | {key: value for key, value in values.items() if key in others}
        return super().from_mapping(ours | {"ultralytics": DEFAULTS | passed}, where=where)


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
    spec = importlib.util.find_spec("ultralytics")
    if spec is None or not spec.submodule_search_locations:
        raise missing_train_extra("ultralytics")
    defaults = Path(spec.submodule_search_locations[0]) / "cfg" / "default.yaml"
    return set(yaml.safe_load(defaults.read_text(encoding="utf-8")))


def missing_train_extra(part: str) -> MissingPartError:
    """Return the error to raise when a part of the extra ``train`` is not installed."""
    return MissingPartError(f"training needs {part}", mend="Install it: pip install -e '.[train]'")
