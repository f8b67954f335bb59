"""What ``compare-models`` plans: which models are meant, what they are called, and what is checked before."""

import json
from pathlib import Path

import pytest

from flat_bug.errors import ConfigError, DatasetError, UsageError, WeightsError
from flat_bug.experiments.compare_models import CompareModels, device_name, plan, task_ids
from flat_bug.experiments.models import Model, find_models
from flat_bug.experiments.node_path import NodePath
from flat_bug.segmenters.load import default_weights


def touch(path: Path, content: str | None = None) -> Path:
    """Make a file that differs from all others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(str(path) if content is None else content)
    return path


def found(*directories: str | Path, **options: object) -> dict[str, str]:
    """Return name → file name of the models found."""
    models = find_models([str(path) for path in directories], **options).models  # type: ignore[arg-type]
    return {model.name: model.weights.name for model in models}


def test_of_a_trained_folder_the_best_weights_are_taken(tmp_path: Path) -> None:
    for name in ("best.pt", "last.pt", "epoch5.pt"):
        touch(tmp_path / "large" / "weights" / name)
    touch(tmp_path / "large" / "labels.txt")
    assert found(tmp_path / "large") == {"large": "best.pt"}
    assert found(tmp_path / "large", pattern=r"last\.pt$") == {"large": "last.pt"}
    everything = {"large-best": "best.pt", "large-epoch5": "epoch5.pt", "large-last": "last.pt"}
    assert found(tmp_path / "large", all_weights=True) == everything
    assert found(tmp_path / "large", all_weights=True, pattern="epoch") == {"large": "epoch5.pt"}


def test_without_best_weights_the_last_are_taken_and_without_those_all(tmp_path: Path) -> None:
    touch(tmp_path / "a" / "weights" / "last.pt")
    touch(tmp_path / "a" / "weights" / "epoch1.pt")
    touch(tmp_path / "zoo" / "small.onnx")
    touch(tmp_path / "zoo" / "large.onnx")
    assert found(tmp_path / "a", tmp_path / "zoo") == {"a": "last.pt", "large": "large.onnx", "small": "small.onnx"}


def test_of_a_model_in_two_formats_the_onnx_file_is_taken(tmp_path: Path) -> None:
    touch(tmp_path / "m" / "weights" / "best.pt")
    touch(tmp_path / "m" / "weights" / "best.onnx")
    assert found(tmp_path / "m") == {"m": "best.onnx"}


def test_folders_of_folders_are_searched(tmp_path: Path) -> None:
    for run in ("first", "second"):
        touch(tmp_path / "runs" / run / "weights" / "best.pt")
    assert found(tmp_path / "runs") == {"first": "best.pt", "second": "best.pt"}


def test_globs_home_and_repetition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("experiment_1", "experiment_2", "other"):
        touch(tmp_path / "output" / name / "weights" / "best.pt")
    touch(tmp_path / "output" / "experiment_notes.txt")
    expected = {"experiment_1": "best.pt", "experiment_2": "best.pt"}
    assert found("~/output/experiment_*") == expected
    assert found("$HOME/output/experiment_?", "${HOME}/output/other") == {**expected, "other": "best.pt"}
    assert found("~/output/experiment_1", "~/output/experiment_*") == expected


def test_names_that_occur_twice_get_the_folders_above(tmp_path: Path) -> None:
    for place in ("x/seed1/M", "x/seed2/M", "y/seed1/M"):
        touch(tmp_path / place / "weights" / "best.pt")
    names = found(*(tmp_path / place for place in ("x/seed1/M", "x/seed2/M", "y/seed1/M")))
    assert list(names) == ["x-seed1-M", "seed2-M", "y-seed1-M"]


def test_the_same_weights_are_scored_once_unless_their_cards_differ(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        touch(tmp_path / f"{name}.onnx", "same")
    touch(tmp_path / "c.card.json", "a card")
    search = find_models([str(tmp_path / f"{name}.onnx") for name in ("a", "b", "c")])
    assert [model.name for model in search.models] == ["a", "c"]
    [note] = search.notes
    assert "b.onnx is the same model as" in note


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    touch(tmp_path / "m" / "weights" / "best.pt")
    touch(tmp_path / "m" / "weights" / ".best.pt.swp.pt")
    touch(tmp_path / "readme.txt")
    touch(tmp_path / "m.card.json")  # that of a weight file, which a glob of weights takes as well
    (tmp_path / "empty").mkdir()
    search = find_models([str(tmp_path / "*")])
    assert [model.name for model in search.models] == ["m"]
    assert {note.removeprefix(str(tmp_path)) for note in search.notes} == {
        f"there are no weights in {tmp_path / 'empty'}",
        "/m/weights/.best.pt.swp.pt is hidden and was left out",
        "/readme.txt is not a weight file and was left out",
    }


def test_weights_can_be_named(tmp_path: Path) -> None:
    best, odd = touch(tmp_path / "m" / "weights" / "best.pt"), touch(tmp_path / "a=b.onnx")
    models = find_models([], [f"{best}", f"large={touch(tmp_path / 'x.onnx')}", f"{odd}", "default"]).models
    assert [model.name for model in models] == ["m", "large", "a=b", "default"]
    assert models[-1].weights == default_weights()


@pytest.mark.parametrize(
    "name", ["$(touch pwned)", "`id`", "a b", "it's", '"x"', ";x", "a\nb", "$HOME", "[x]", "--dry-run"]
)
def test_hostile_names_are_names(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / name / "weights" / "best.pt")
    monkeypatch.chdir(tmp_path)
    [model] = find_models(["./*"]).models
    assert model.name == name
    assert NodePath.literal(model.weights).resolve().read_text() == str(tmp_path / name / "weights" / "best.pt")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("directories", "weights", "message"),
    [
        (["nothing/*"], [], "no such folder of models"),
        (["/experiments_of_nobody/*"], [], "did the shell replace a variable by nothing"),
        (["$SLURM_JOB_ID/m"], [], "SLURM_JOB_ID is not set here"),
        ([], ["absent.onnx"], "no such weight file"),
        ([], ["name=absent.onnx"], "no such weight file"),
        ([], [], "there are no weights"),
    ],
)
def test_a_search_that_cannot_succeed_says_why(directories: list[str], weights: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_models(directories, weights)


def test_a_pattern_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a regular expression"):
        find_models([str(tmp_path)], pattern="([")


def test_without_the_shipped_weights_the_message_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flat_bug.segmenters.load.DEFAULT_WEIGHTS", tmp_path / "absent.onnx")
    with pytest.raises(WeightsError, match="the default weights are missing"):
        find_models([], ["default"])


def test_ids_need_no_quoting_and_are_unique() -> None:
    names = ["Größe M", "grosse m", "🦋", "-rf", "a/b", "A b", "a-b", "x" * 300]
    ids = task_ids(Model(name, Path("w.onnx"), "") for name in names)
    assert ids == ["Groe-M", "grosse-m", "model", "rf", "a-b", "A-b-2", "a-b-3", "x" * 80]


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CompareModels:
    """Return options whose paths all exist."""
    monkeypatch.chdir(tmp_path)
    touch(tmp_path / "images" / "a.jpg")
    truth = touch(tmp_path / "truth.json", json.dumps({"images": [], "annotations": [], "categories": []}))
    weights = [str(touch(tmp_path / name / "weights" / "best.onnx")) for name in ("a", "b", "c")]
    return CompareModels(input="images", ground_truth=truth.name, weights=tuple(weights))


def test_a_plan_has_a_task_for_each_model(tmp_path: Path, options: CompareModels) -> None:
    made, notes = plan(options.model_copy(update={"devices": ("0", "1")}), tmp_path / "run", ["fb", "run"])
    assert [task.id for task in made.tasks] == ["a", "b", "c"]
    assert [task.args["device"] for task in made.tasks] == ["cuda:0", "cuda:1", "cuda:0"]
    assert made.tasks[0].args["images"] == str(tmp_path / "images")
    assert made.tasks[0].inputs == ("weights", "images", "ground_truth")
    assert set(made.digests) == {str(tmp_path / name / "weights/best.onnx") for name in "abc"} | {
        str(tmp_path / "truth.json")
    }
    assert made.command == ("fb", "run")
    assert [note.partition(" has no card beside it")[0] for note in notes] == list(options.weights)
    assert [device_name(name) for name in ("3", "cpu", "cuda:1")] == ["cuda:3", "cpu", "cuda:1"]


def test_a_score_threshold_that_nobody_chose_is_said(tmp_path: Path, options: CompareModels) -> None:
    touch(tmp_path / "a" / "weights" / "best.card.json", "a card")
    _, notes = plan(options, tmp_path / "run")
    assert notes == tuple(
        f"{weights} has no card beside it; a score threshold of 0.2 is assumed (copy best.card.json along)"
        for weights in options.weights[1:]
    )
    assert plan(options.model_copy(update={"predict": {"score_threshold": 0.4}}), tmp_path / "run")[1] == ()
    config = touch(tmp_path / "config.yaml", "score_threshold: 0.4")
    assert plan(options.model_copy(update={"config": str(config)}), tmp_path / "run")[1] == ()


def test_images_of_another_ground_truth_are_refused_before_anything_runs(
    tmp_path: Path, options: CompareModels
) -> None:
    for number, name in enumerate(("val/a.jpg", "val/b.jpg")):
        image = {"id": number, "file_name": name, "width": 9, "height": 9}
        touch(tmp_path / "truth.json", json.dumps({"images": [image], "annotations": [], "categories": []}))
        if name == "val/a.jpg":  # that of the folder, which the ground truth may write with others above
            assert plan(options, tmp_path / "run")
            continue
        with pytest.raises(DatasetError, match="none of the 1 predicted images is in the ground truth"):
            plan(options, tmp_path / "run")


def test_paths_of_the_node_are_left_to_the_node_with_soft(tmp_path: Path, options: CompareModels) -> None:
    node = {"input": "$SLURM_TMPDIR/images", "ground_truth": "$SLURM_TMPDIR/truth.json", "tmp": "$SLURM_TMPDIR/out"}
    soft = options.model_copy(update={**node, "soft": True})
    made, _ = plan(soft, tmp_path / "run")
    names = ("images", "ground_truth", "tmp")
    assert [made.tasks[0].args[name] for name in names] == list(node.values())
    with pytest.raises(UsageError, match="SLURM_TMPDIR is not set here"):
        plan(soft.model_copy(update={"soft": False}), tmp_path / "run")


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("option", ["input", "ground_truth", "tmp", "config"])
def test_a_variable_that_the_shell_emptied_is_recognised(
    tmp_path: Path, options: CompareModels, option: str, soft: bool
) -> None:
    emptied = options.model_copy(update={option: "/fb_yolo_of_nobody/x", "soft": soft})
    with pytest.raises(UsageError, match=r"Escape the variable"):
        plan(emptied, tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"input": "absent"}, UsageError, "no such folder of images"),
        ({"ground_truth": "absent.json"}, DatasetError, "no such ground truth"),
        ({"ground_truth": "images/a.jpg"}, DatasetError, "JSON"),
        ({"input_pattern": r"\.bmp$"}, UsageError, "no images"),
        ({"config": "absent.yaml"}, ConfigError, "cannot be read"),
        ({"predict": {"score_threshold": 2}}, ConfigError, "score_threshold"),
        ({"evaluate": {"iou_threshold": 0}}, ConfigError, "iou_threshold"),
    ],
)
def test_what_can_be_known_before_is_said_before(
    tmp_path: Path,
    options: CompareModels,
    change: dict[str, object],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        plan(options.model_copy(update=change), tmp_path / "run")


def test_the_output_may_not_lie_in_the_input(tmp_path: Path, options: CompareModels) -> None:
    with pytest.raises(UsageError, match="the output lies in the input"):
        plan(options, tmp_path / "images" / "run")
