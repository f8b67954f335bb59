"""Settings of a training, where they come from, and which tiles an epoch draws from them."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flat_bug.cli.train import _given
from flat_bug.errors import ConfigError, MissingPartError, UsageError
from flat_bug.training.sampling import BalancedSampler, dataset_weights
from flat_bug.training.settings import DEFAULTS, TrainSettings

pytestmark = pytest.mark.train

LEGACY = """
batch: 8
imgsz: 1024
epochs: 500
lr0: 1.0e-3
close_mosaic: 0
fb_max_instances: 99
fb_max_images: -1
fb_exclude_datasets: [AMI, BIODISCOVER]
fb_custom_eval: false
fb_custom_eval_num_images: -1
"""


def test_a_configuration_of_existing_flat_bug_is_understood(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(LEGACY)
    settings = TrainSettings.from_yaml(tmp_path / "config.yaml")
    assert (settings.imgsz, settings.fb_max_instances, settings.lr0) == (1024, 99, 0.001)
    assert settings.fb_exclude_datasets == ("AMI", "BIODISCOVER")
    assert settings.for_ultralytics()["close_mosaic"] == 0


def test_keys_of_ultralytics_pass_through_and_ours_do_not() -> None:
    passed = TrainSettings.from_mapping({"degrees": 45, "fb_threads": 2}).for_ultralytics()
    assert passed["degrees"] == 45
    assert passed["flipud"] == DEFAULTS["flipud"]
    assert not any(key.startswith("fb_") for key in passed)


def test_settings_survive_the_record_of_a_run() -> None:
    settings = TrainSettings.from_mapping({"degrees": 45, "time": 1.5, "fb_exclude_datasets": ["a"], "device": 0})
    again = TrainSettings.from_mapping(settings.to_mapping())
    assert again.to_mapping() == settings.to_mapping()


@pytest.mark.parametrize(
    ("key", "nearest"), [("epoch", "epochs"), ("fb_max_instance", "fb_max_instances"), ("degres", "degrees")]
)
def test_an_unknown_key_names_the_nearest(key: str, nearest: str) -> None:
    with pytest.raises(ConfigError, match=nearest):
        TrainSettings.from_mapping({key: 1})


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"fb_max_images": 0}, "no limit"),
        ({"imgsz": 100}, "32"),
        ({"epochs": "many"}, "epochs"),
        ({"device": [0, 1]}, "one device"),
        ({"device": "0,1"}, "one device"),
        ({"name": "../elsewhere"}, "one folder"),
        ({"resume": True}, "unknown setting"),
        ({"data": "other.yaml"}, "unknown setting"),
    ],
)
def test_an_impossible_value_is_refused(values: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        TrainSettings.from_mapping(values)


@pytest.mark.parametrize("key", ["model", "pretrained", "distill_model"])
@pytest.mark.parametrize("name", ["best.pt", "best.PT", "yolo11n-seg"])
def test_whatever_ultralytics_opens_as_a_checkpoint_is_known_before(key: str, name: str) -> None:
    assert TrainSettings.from_mapping({key: name}).weight_files() == [Path(name)]


@pytest.mark.parametrize("values", [{}, {"model": "own-seg.yaml"}, {"pretrained": False}, {"pretrained": True}])
def test_architectures_and_switches_are_no_checkpoints(values: dict[str, object]) -> None:
    assert TrainSettings.from_mapping(values).weight_files() == []


def test_values_on_the_command_line_are_yaml(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("epochs: 7\nbatch: 3\n")
    given = _given(
        tmp_path / "config.yaml",
        {"epochs": "9", "lr0": "1e-3", "fb-exclude-datasets": "[a, b c]", "cos_lr": "false", "device": "null"},
    )
    settings = TrainSettings.from_mapping(given)
    assert (settings.epochs, settings.batch, settings.lr0, settings.device) == (9, 3, 0.001, None)
    assert settings.fb_exclude_datasets == ("a", "b c")
    assert settings.ultralytics["cos_lr"] is False


def test_values_on_the_command_line_are_never_evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = '__import__("os").system("touch pwned")'
    assert TrainSettings.from_mapping(_given(None, {"name": code})).name == code
    with pytest.raises(UsageError):
        _given(None, {"name": "!!python/object/apply:os.system ['touch pwned']"})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["epochs: [", "- a list", "\x00"])
def test_a_corrupt_configuration_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        TrainSettings.from_yaml(tmp_path / "config.yaml")


def test_without_the_extra_one_is_told_what_to_install(tmp_path: Path) -> None:
    # None in sys.modules is how Python itself marks what must not be imported.
    program = "import sys; sys.modules['ultralytics'] = None; from flat_bug.cli.main import main; main(sys.argv[1:])"
    words = [sys.executable, "-c", program, "train", "-d", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == MissingPartError.exit_code
    assert "training needs ultralytics" in done.stderr
    assert "flat-bug[train]" in done.stderr
    assert "Traceback" not in done.stderr


@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=5),
    count=st.integers(1, 300),
    balance=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_each_dataset_gets_its_share_of_an_epoch(sizes: list[int], count: int, balance: float, seed: int) -> None:
    datasets = [str(index) for index, size in enumerate(sizes) for _ in range(size)]
    drawn = list(BalancedSampler(dataset_weights(datasets, balance), count, seed))
    assert len(drawn) == count
    of_dataset, of_tile = Counter(datasets[tile] for tile in drawn), Counter(drawn)
    shares = np.array(sizes, float) ** (1 - balance)
    expected = count * shares / shares.sum()
    for index, size in enumerate(sizes):
        assert abs(of_dataset[str(index)] - expected[index]) <= 1 + 1e-6
        tiles = [of_tile[tile] for tile, dataset in enumerate(datasets) if dataset == str(index)]
        assert max(tiles) - min(tiles) <= 1, (size, tiles)


def test_epochs_differ_and_can_be_drawn_again() -> None:
    weights = dataset_weights(["a"] * 30 + ["b"] * 5, 0.5)
    sampler = BalancedSampler(weights, 50, seed=3)
    first, second = list(sampler), list(sampler)
    assert first != second
    again = BalancedSampler(weights, 50, seed=3)
    again.epoch = 1
    assert list(again) == second
    assert len(sampler) == 50
