"""What docs/python.md shows is run, word for word, and does what is said of it."""

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.spots import spots

import flat_bug.predictor

PAGE = Path(__file__).parents[1] / "docs" / "python.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
SPOTS = [(60, 50), (150, 120), (290, 200), (256, 60)]


@pytest.fixture(scope="module")
def namespace(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the names that there are after the page was typed in, beside the images that it names."""
    folder = tmp_path_factory.mktemp("session")
    Image.fromarray(spots(400, 300, SPOTS, 20)).save(folder / "tray.jpg", quality=95)
    (folder / "trays").mkdir()
    for name in ("a", "c"):
        shutil.copy(folder / "tray.jpg", folder / "trays" / f"{name}.jpg")
    (folder / "trays" / "b.jpg").write_bytes(b"not an image")
    names: dict[str, Any] = {"__name__": "docs"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for block in BLOCKS:
            exec(block, names)  # noqa: S102  # our own page
    return names | {"folder": folder}


def test_every_block_runs_and_leaves_what_it_says(namespace: dict[str, Any]) -> None:
    assert len(BLOCKS) >= 8
    folder = namespace["folder"]
    written = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.json"))
    assert written == ["tray.json", "trays/a.json", "trays/c.json"]
    assert namespace["picture"].shape == (300, 400, 3)
    assert all(crop.shape[2] == 4 for crop in namespace["crops"])


def test_the_segmenter_of_the_page_finds_what_is_dark_across_tiles(namespace: dict[str, Any]) -> None:
    found = namespace["dark_things"]
    assert len(found) == len(SPOTS)
    middles = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2
    for spot in SPOTS:
        assert np.abs(middles - spot).max(axis=1).min() < 1.5
    np.testing.assert_allclose(found.areas, np.pi * 20**2, rtol=0.08)


def test_the_table_of_former_names_names_what_there_is() -> None:
    rows = re.findall(r"^\| (`.*?) \| (.*) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    former = {name for old, _ in rows for name in re.findall(r"`\.(\w+)", old)}
    new = {name for _, now in rows for name in re.findall(r"`\.(\w+)", now)}
    assert {"boxes", "plot", "save"} <= former
    owners = (flat_bug.predictor.Predictor, flat_bug.predictor.TensorPredictions)
    assert [name for name in sorted(former) if not any(hasattr(owner, name) for owner in owners)] == []
    columns = flat_bug.Instances.__dataclass_fields__
    assert [name for name in sorted(new) if name not in columns and not hasattr(flat_bug.Instances, name)] == []
