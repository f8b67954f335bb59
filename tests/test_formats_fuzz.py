"""Whatever a JSON or COCO file holds, reading it gives a table that can be written, or an error of ours.

FLAT_BUG_FUZZ_EXAMPLES is the number of files that are tried; by default few enough to run with all other tests.
"""

import json
import math
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.legacy_json import legacy
from tests.outlines import tables

from flat_bug.errors import FlatBugError
from flat_bug.instances.coco import write_coco
from flat_bug.instances.formats import FORMATS, write_formats
from flat_bug.instances.metadata import Metadata, read_metadata, to_mapping
from flat_bug.instances.table import Instances
from flat_bug.prediction_run.former_results import FormerResults, find_results

EXAMPLES = int(os.environ.get("FLAT_BUG_FUZZ_EXAMPLES", "50"))
RING = [[0, 0], [1, 1], [0, 1]]
ODD = st.sampled_from(
    [
        *(None, True, False, 0, -1, 1, 2**63, -(2**70), 10**400, 0.5, 1e308, -1e308, 5e-324, math.nan, math.inf),
        *("", "1", "\0", "\ud800", "x" * 300, "../x", [], {}, [[]], [[[]]], [None], [[0, 0], [1, 1]]),
        *({"type": kind, "coordinates": value} for kind in ("Polygon", "MultiPolygon") for value in ([], [RING], RING)),
        *({"type": "Polygon"}, {"type": "Point", "coordinates": [1, 2]}),
    ]
)
JSON = st.recursive(ODD | st.integers() | st.floats() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=4))
LEGACY = legacy()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def changed(draw: st.DrawFn, value: Any) -> Any:
    """Return JSON in which something was replaced, left out, or doubled, anywhere in it."""
    if isinstance(value, dict) and value and draw(st.integers(0, 4)):
        key = draw(st.sampled_from(sorted(value)))
        if draw(st.integers(0, 5)) == 0:
            return {name: inner for name, inner in value.items() if name != key}
        return value | {key: changed(draw, value[key])}
    if isinstance(value, list) and value and draw(st.integers(0, 4)):
        row = draw(st.integers(0, len(value) - 1))
        match draw(st.integers(0, 6)):
            case 0:
                return value[:row] + value[row + 1 :]
            case 1:
                return value[: row + 1] + value[row:]
            case _:
                return [*value[:row], changed(draw, value[row]), *value[row + 1 :]]
    return draw(JSON)


@st.composite
def metadata_texts(draw: st.DrawFn) -> str:
    whole: dict[str, Any] = LEGACY if draw(st.booleans()) else to_mapping(Metadata(draw(tables()), "a.jpg", "id"))
    if draw(st.booleans()):
        whole = whole | {"track_ids": list(range(len(whole["confs"]))), "page": 2, "frame_index": 7, "time_s": 0.25}
    for _ in range(draw(st.integers(0, 3))):
        whole = changed(draw, whole)
    return json.dumps(whole)


@st.composite
def coco_texts(draw: st.DrawFn, place: Path) -> str:
    path = place / "whole.json"
    write_coco(path, [("a.jpg", draw(tables())), ("sub/b.jpg", draw(tables()))], run_lengths=draw(st.booleans()))
    whole = json.loads(path.read_text(encoding="utf-8"))
    for _ in range(draw(st.integers(0, 3))):
        whole = changed(draw, whole)
    return json.dumps(whole)


def check_is_sound(table: Instances) -> None:
    """What was read holds what every writer takes for granted."""
    assert table.width >= 1
    assert table.height >= 1
    assert np.isfinite(table.boxes).all()
    assert ((table.scores >= 0) & (table.scores <= 1)).all()
    assert ((table.classes >= 0) & (table.classes < len(table.class_names))).all()
    assert np.isin(shapely.get_type_id(table.polygons), [3, 6]).all()
    assert np.isfinite(shapely.get_coordinates(table.polygons)).all()


def check_can_be_written(results: FormerResults, place: Path) -> None:
    for result in results:
        check_is_sound(result.table)
        small = result.table.width * result.table.height < 10**7 and np.abs(result.table.boxes).max(initial=0) < 10**4
        kinds = [kind for name, kind in FORMATS.items() if small or name not in ("coco", "cvat", "fiftyone")]
        write_formats(kinds, place / "out", [result])


@given(metadata_texts())
@settings(max_examples=EXAMPLES)
def test_any_json_is_read_or_refused(place: Path, text: str) -> None:
    path = place / "metadata_x.json"
    path.write_text(text)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # they would appear among what a command prints
        try:
            table = read_metadata(path).instances
        except FlatBugError:
            return
        check_is_sound(table)
        check_can_be_written(find_results(path), place)


@given(st.data())
@settings(max_examples=EXAMPLES)
def test_any_coco_file_is_read_or_refused(place: Path, data: st.DataObject) -> None:
    path = place / "coco.json"
    path.write_text(data.draw(coco_texts(place)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            check_can_be_written(find_results(path), place)
        except FlatBugError:
            return


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
@settings(max_examples=EXAMPLES)
def test_any_bytes_are_read_or_refused(place: Path, content: bytes) -> None:
    path = place / "metadata_y.json"
    path.write_bytes(content)
    with pytest.raises(FlatBugError):
        read_metadata(path)
    try:
        assert list(results := find_results(path)) == []
        assert results.failures
    except FlatBugError:
        pass


@pytest.mark.parametrize("opening", ["[", '{"a":', '{"boxes": ['])
def test_json_that_is_nested_without_end_is_refused(tmp_path: Path, opening: str) -> None:
    path = tmp_path / "metadata_x.json"
    path.write_text(opening * 100_000)
    with pytest.raises(FlatBugError):
        read_metadata(path)
    with pytest.raises(FlatBugError):
        list(find_results(path))
