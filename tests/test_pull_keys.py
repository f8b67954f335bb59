"""Which keys become files: none outside the folder, no two the same file, and the rest is pulled."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.s3_servers import KEY_ID, SECRET, Server, moto

from flat_bug.cli._support import run
from flat_bug.cli.main import build_app
from flat_bug.datasets.pull_keys import choose_paths, shown, why_refused
from flat_bug.datasets.s3 import RemoteObject

HOSTILE = (
    *("../../x", "pre/../../../x", "/etc/cron.d/x", "pre//x", "pre/./x", "pre/..", "."),
    *("C:x", "c:/x", "nul\0x", "line\x1bx", "back\\slash", "x" * 300, "é" * 200),
    *(".flat-bug-pull/manifest.json", ".Flat-Bug-Pull/x"),
)


def listed(*keys: str, size: int = 1) -> list[RemoteObject]:
    return [RemoteObject(key, size, "", 0.0) for key in keys]


@pytest.mark.parametrize("key", HOSTILE)
def test_a_hostile_key_is_refused_with_a_reason(key: str) -> None:
    wanted, refused = choose_paths(listed(key), "")
    assert wanted == []
    assert refused[0].key == key
    assert refused[0].reason


@given(st.text(st.sampled_from("./\\a~ é\0\n"), max_size=12))
def test_whatever_the_key_its_file_is_inside_the_folder(key: str) -> None:
    folder = "/data/pulled"
    if not why_refused(key):
        path = os.path.normpath(f"{folder}/{key}")
        assert path == f"{folder}/{key}"
        assert path.startswith(f"{folder}/")


@pytest.mark.parametrize("key", ["a b/c+d%20#?&é~*'\"$(touch pwned).jpg", "..a/b..", "~/x", "-rf", "CON", "ab:c"])
def test_an_odd_key_that_is_a_fine_file_name_is_taken_as_it_is(key: str) -> None:
    wanted, refused = choose_paths(listed(key), "")
    assert [one.path for one in wanted] == [key]
    assert refused == []


@pytest.mark.parametrize(("first", "second"), [("A.jpg", "a.jpg"), ("d/É.jpg", "d/e\u0301.jpg"), ("STRASSE", "straße")])
def test_of_keys_that_are_one_file_where_case_is_ignored_the_first_is_taken(first: str, second: str) -> None:
    for order in ((first, second), (second, first)):
        wanted, refused = choose_paths(listed(*order), "")
        kept = min(first, second)
        assert [one.path for one in wanted] == [kept]
        assert kept in refused[0].reason


def test_a_key_that_is_the_folder_of_others_is_refused_and_they_are_pulled() -> None:
    wanted, refused = choose_paths(listed("A", "a/b", "a/c/d"), "")
    assert [one.path for one in wanted] == ["a/b", "a/c/d"]
    assert [failure.key for failure in refused] == ["A"]


def test_folder_markers_are_passed_over_but_not_those_that_hold_bytes() -> None:
    assert choose_paths(listed("pre/", "pre/a/", size=0), "pre/") == ([], [])
    _, refused = choose_paths(listed("pre/a/"), "pre/")
    assert [failure.key for failure in refused] == ["pre/a/"]


def test_a_key_that_is_not_utf8_is_refused() -> None:
    _, refused = choose_paths(listed("\udcff.jpg"), "")
    assert refused[0].reason == "its name is not UTF-8"


def test_a_key_cannot_write_over_the_terminal() -> None:
    assert shown("a\x1b[2J\n\u202eb é") == "a\\x1b[2J\\n\\u202eb é"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with moto() as running:
        yield running


def test_hostile_keys_are_a_failed_row_each_and_the_rest_is_pulled(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    hostile = ["../../x", "/abs", "nul\0x", "a//b", "./c", "back\\slash", "a.jpg", "d", ".flat-bug-pull/manifest.json"]
    fine = {"A.jpg": b"upper", "d/e.jpg": b"inside", "ok é+%41 #.jpg": b"odd"}
    server.put("hostile", dict.fromkeys(hostile, b"evil") | fine)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    folder = tmp_path / "in" / "side" / "pulled"
    words = ["data", "pull", "s3://hostile", str(folder), "--endpoint-url", server.endpoint]

    assert run(build_app(words), words) == 1

    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    own = {f"in/side/pulled/.flat-bug-pull/{name}" for name in ("manifest.json", "lock")}
    assert files - own == {f"in/side/pulled/{key}" for key in fine}
    assert {key: (folder / key).read_bytes() for key in fine} == fine
    rows = [line for line in capfd.readouterr().err.splitlines() if line.startswith("fb: ")]
    assert len(rows) == len(hostile)
    for key in hostile:
        assert sum(row.startswith(f"fb: {shown(key)}: ") for row in rows) == 1
    assert not Path("/abs").exists()
