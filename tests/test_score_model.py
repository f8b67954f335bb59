"""The task that scores a model, by itself."""

from pathlib import Path

from tests.comparison import make_place

from flat_bug.experiments.score_model import score_model
from flat_bug.experiments.score_task import Scored


def test_predictions_of_any_earlier_attempt_are_taken_over(tmp_path: Path) -> None:
    place = make_place(tmp_path)
    weights = next((place / "models").rglob("*.onnx"))
    args = {"model": "good", "weights": str(weights), "images": str(place / "images")}
    args["ground_truth"] = str(place / "truth.json")
    attempts = [tmp_path / "task" / f"attempt-{number}" for number in (1, 2, 3)]
    for attempt in attempts:
        attempt.mkdir(parents=True)
    assert Scored.model_validate(score_model(dict(args), attempts[0]).values).megapixels > 0
    # The second was stopped before it could predict anything.
    assert Scored.model_validate(score_model(dict(args), attempts[2]).values).megapixels == 0
