"""Progress of work on things of unequal size: by size, not by number."""

import pytest

from flat_bug import progress
from flat_bug.progress import Pace, pacing


def pace(done: int = 2, failed: int = 0, size_left: float | None = 30.0, size_worked: float = 10.0) -> Pace:
    return Pace(done, 4, failed, size_done=10.0, size_left=size_left, size_worked=size_worked, seconds=5.0)


def test_time_left_is_by_size() -> None:
    assert pace().rate == 2.0
    assert pace().seconds_left == 15.0
    assert pace().share == 0.25


def test_what_was_found_done_says_nothing_about_the_rate() -> None:
    assert pace(size_worked=0.0).rate is None
    assert pace(size_worked=0.0).seconds_left is None


def test_where_no_size_is_known_the_number_counts() -> None:
    assert pace(size_left=None).share == 0.5
    assert pace(size_left=None).seconds_left is None


def test_a_log_has_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pacing("Predicting", "Mpx") as report:
        report(pace())
    assert capsys.readouterr().err == "", "not before ten seconds"
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    with pacing("Predicting", "Mpx") as report:
        report(pace())
        report(pace(failed=1, size_worked=0.0))
        report(pace(done=4))
    assert capsys.readouterr().err.splitlines() == [
        "Predicting: 2 of 4, 2 Mpx/s, 0:00:15 left",
        "Predicting: 2 of 4, 1 failed",
    ]
