"""Settings as frozen pydantic models, read from YAML with today's or flat-bug's upper-case keys."""

import difflib
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError

from flat_bug.errors import ConfigError

Dtype = Literal["auto", "float32", "float16", "bfloat16"]
"""The precision in which a network computes; ``auto`` is what is fast on the device without harm to the outlines."""

UNBOUNDED = 1e8
"""An upper size limit, in pixels, that no object reaches."""


class Settings(BaseModel):
    """A frozen group of settings that can be read from YAML and written back to it."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    @classmethod
    def from_yaml(cls, path: Path) -> Self:
        """Read settings from a YAML file; keys that are absent keep their defaults.

        Upper-case keys of existing flat-bug configurations are understood where they have a meaning here.

        Raises:
            ConfigError: The file is absent, is not YAML, or holds an unknown key or an impossible value.
        """
        try:
            values = cls.read_yaml(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"the configuration cannot be read: {error.strerror}", where=path) from error
        except (UnicodeDecodeError, yaml.YAMLError) as error:
            # The parser points at the place with a drawing of several lines.
            raise ConfigError(f"the configuration is not YAML: {' '.join(str(error).split())}", where=path) from error
        if values is None:
            values = {}
        if not isinstance(values, dict):
            raise ConfigError("the configuration is not a mapping of names to values", where=path)
        return cls.from_mapping(values, where=path)

    @classmethod
    def read_yaml(cls, text: str) -> Any:
        """Return what YAML holds; kinds of settings for which YAML guesses types wrongly read it their own way."""
        return yaml.safe_load(text)

    @classmethod
    def from_mapping(cls, values: dict[str, Any], *, where: str | Path = "") -> Self:
        """Check a mapping of setting names, legacy ones included, to values.

        Raises:
            ConfigError: A key is unknown or a value impossible; the message names the nearest valid key.
        """
        known: dict[str, Any] = {}
        for key, value in values.items():
            name = cls.legacy_names().get(str(key), str(key).lower())
            if name == IGNORED:
                continue
            if name not in cls.model_fields:
                nearest = difflib.get_close_matches(name, cls.model_fields, n=1)
                hint = f"Did you mean {nearest[0]!r}?" if nearest else f"Known: {', '.join(cls.model_fields)}."
                raise ConfigError(f"unknown setting {key!r}", where=where, mend=hint)
            known[name] = value
        try:
            return cls.model_validate(known)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            raise ConfigError(f"setting {name!r}: {first['msg']}, got {first['input']!r}", where=where) from error

    @classmethod
    def legacy_names(cls) -> dict[str, str]:
        """Return flat-bug 1.x key → name here; ``IGNORED`` for keys that have lost their meaning."""
        return {}

    def to_yaml(self) -> str:
        """Return the settings as YAML, in the order of their definition."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


IGNORED = "(ignored)"


class PredictSettings(Settings):
    """How one image is turned into instances."""

    score_threshold: float | None = Field(
        None, ge=0, le=1, description="Keep instances that score above this; by default what the model's card says."
    )
    overlap_threshold: float = Field(
        0.2, gt=0, le=1, description="Two instances that overlap more than this are one animal."
    )
    overlap_metric: Literal["IoU", "IoS"] = Field(
        "IoU", description="Overlap over the union, or over the smaller of the two."
    )
    # Without a shared zone nothing tells that two halves are one animal.
    minimum_tile_overlap: PositiveInt | None = Field(
        None, description="Least overlap of neighbouring tiles, in level pixels; by default a sixteenth of a tile."
    )
    edge_case_margin: PositiveInt = Field(
        16, description="An outline nearer than this to an inner tile edge, in level pixels, may be cut by it."
    )
    min_max_obj_size: tuple[float, float] = Field(
        (0.0, UNBOUNDED), description="Smallest and largest size, sqrt(width x height) of the box in image pixels."
    )
    batch_size: PositiveInt = Field(4, description="Tiles that are handed to the network at once.")
    # Each doubling costs four times as long; beyond this a slip of the finger would run for days.
    scale_before: float = Field(1.0, gt=0, le=16, description="Scale the image by this before everything else.")
    single_scale: bool = Field(False, description="Use the finest level only.")
    exhaustive: bool = Field(
        False, description="Look at every tile of every level, not only where coarser levels call for a closer look."
    )
    refine: bool = Field(
        False, description="Look at small and coarsely seen animals once more, magnified, for a better outline."
    )
    dtype: Dtype = Field("auto", description="Precision of the network, where the library leaves a choice.")
    grid_shift: tuple[NonNegativeInt, NonNegativeInt] = Field(
        (0, 0),
        description="Move the tiles of each level left and up by so many pixels, to test what depends on it.",
    )

    @classmethod
    def legacy_names(cls) -> dict[str, str]:
        """Return the names of flat-bug 1.x configurations."""
        return {
            "IOU_THRESHOLD": "overlap_threshold",
            # Chosen by the model's card, or without an equivalent because masks are never image-sized here.
            "TILE_SIZE": IGNORED,
            "MAX_MASK_SIZE": IGNORED,
            "PREFER_POLYGONS": IGNORED,
            "EXPERIMENTAL_NMS_OPTIMIZATION": IGNORED,
            "TIME": IGNORED,
        }
