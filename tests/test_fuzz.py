"""Some seconds of what ``make fuzz`` does for an hour: no broken file leads to an error that is not ours."""

import sys
from pathlib import Path
from random import Random
from subprocess import run

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fuzz import seeds
from tests.fuzz.targets import TARGETS

WHOLE = [("images", content) for content in seeds.images().values()]
WHOLE += [("metadata", seeds.metadata().encode()), ("metadata", seeds.legacy_metadata().encode())]
WHOLE += [("coco", seeds.coco().encode())]


@pytest.mark.parametrize(("name", "content"), WHOLE)
def test_what_is_broken_was_whole_before(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    assert TARGETS[name].attempt(tmp_path / "file")


@pytest.mark.parametrize("name", TARGETS)
def test_broken_files_lead_to_errors_of_ours(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "case"

    @given(st.integers(0, 2**32))
    @settings(max_examples=60, derandomize=True, database=None)
    def attempt(seed: int) -> None:
        path.write_bytes(TARGETS[name].make(Random(seed)))
        TARGETS[name].attempt(path)

    attempt()


def test_a_finding_is_kept_and_said(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "tests.fuzz", "--minutes", "0.01", "--only", "coco", "--folder", str(tmp_path)]
    ended = run(words, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1])
    assert (ended.returncode, ended.stdout.splitlines()[-1]) == (0, "nothing was found")
