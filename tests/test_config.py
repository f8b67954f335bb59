"""Settings: from YAML with today's or flat-bug's keys, and what is refused by name."""

from pathlib import Path

import pytest

from flat_bug.config import PredictSettings
from flat_bug.errors import ConfigError

LEGACY = """
SCORE_THRESHOLD: 0.5
IOU_THRESHOLD: 0.3
MINIMUM_TILE_OVERLAP: 256
EDGE_CASE_MARGIN: 128
MIN_MAX_OBJ_SIZE: [16, 1024]
MAX_MASK_SIZE: 1024
PREFER_POLYGONS: true
EXPERIMENTAL_NMS_OPTIMIZATION: true
TIME: false
TILE_SIZE: 1024
BATCH_SIZE: 16
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_configuration_of_flat_bug_1_x_is_understood(tmp_path: Path) -> None:
    settings = PredictSettings.from_yaml(write(tmp_path, LEGACY))
    assert settings.score_threshold == 0.5
    assert settings.overlap_threshold == 0.3
    assert settings.minimum_tile_overlap == 256
    assert settings.min_max_obj_size == (16, 1024)
    assert settings.batch_size == 16


def test_settings_survive_yaml(tmp_path: Path) -> None:
    settings = PredictSettings(score_threshold=0.37, overlap_metric="IoS", min_max_obj_size=(1.5, 9e3))
    assert PredictSettings.from_yaml(write(tmp_path, settings.to_yaml())) == settings


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert PredictSettings.from_yaml(write(tmp_path, "")) == PredictSettings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SCORE_TRESHOLD: 0.5", "Did you mean 'score_threshold'"),
        ("score_threshold: high", "score_threshold"),
        ("score_threshold: 2", "score_threshold"),
        ("minimum_tile_overlap: 0", "minimum_tile_overlap"),
        ("- a\n- list", "not a mapping"),
        ("a: [1", "not YAML"),
        ("!!python/object/apply:os.system [exit]", "not YAML"),
    ],
)
def test_what_is_refused_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PredictSettings.from_yaml(write(tmp_path, text))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml"):
        PredictSettings.from_yaml(tmp_path / "absent.yaml")
