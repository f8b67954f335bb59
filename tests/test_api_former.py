"""What was written for flat-bug 1.x goes on working: its names, what they take, and what they mean.

The shapes, names of files and keys are those that flat-bug 1.2.0 gave for a photograph.
"""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import pyvips
import shapely
from PIL import Image
from tests.oracle import RED, Oracle, draw
from tests.test_predictor import BEETLES, PICTURE

import flat_bug
from flat_bug.config import PredictSettings
from flat_bug.errors import ConfigError, ImageError, UsageError, WeightsError
from flat_bug.predictor import Predictor, TensorPredictions

OLD = pytest.mark.filterwarnings("ignore::DeprecationWarning")
FORMER_KEYS = {
    "boxes", "contours", "confs", "classes", "scales", "areas", "image_path", "image_width", "image_height",
    "mask_width", "mask_height", "identifier",
}  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> str:
    Image.fromarray(PICTURE).save(tmp_path / "beetles.png")
    return str(tmp_path / "beetles.png")


@pytest.fixture
def predictions(path: str) -> TensorPredictions:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Predictor(Oracle()).pyramid_predictions(path)


@OLD
def test_a_former_predictor_finds_what_the_new_one_finds(path: str) -> None:
    new = flat_bug.Predictor(Oracle())(path)
    former = Predictor(model=Oracle(), device="cpu", dtype="auto")
    assert former(path).instances == former.pyramid_predictions(path).instances == new
    assert len(former(path)) == len(BEETLES) == len(new)


@OLD
def test_tensors_have_their_bands_first(path: str) -> None:
    found = Predictor(Oracle())(PICTURE.transpose(2, 0, 1), path=path)
    np.testing.assert_array_equal(found.boxes, flat_bug.Predictor(Oracle())(PICTURE).boxes)
    assert found.image_path == path
    with pytest.raises(ImageError, match=r"no tensor \(3, h, w\)"):
        Predictor(Oracle())(PICTURE)


@OLD
@pytest.mark.train
@pytest.mark.slow
def test_tensors_devices_and_types_of_torch_are_taken() -> None:
    import torch

    former = Predictor(Oracle(), device=torch.device("cpu"), dtype=torch.float32)
    found = former(torch.from_numpy(PICTURE.transpose(2, 0, 1).copy()))
    assert former.predictor.settings.dtype == "float32"
    assert len(found) == len(found[torch.arange(8)]) == 8


@OLD
def test_columns_have_their_former_names_shapes_and_meanings(predictions: TensorPredictions) -> None:
    count, new = len(predictions), predictions.instances
    assert predictions.boxes.shape == (count, 4)
    assert predictions.confs.shape == predictions.classes.shape == (count,)
    assert predictions.classes.tolist() == [1] * count
    assert predictions.scales == new.levels.tolist()
    assert predictions.areas == new.areas.tolist()
    assert predictions.image.shape == (3, 500, 700)
    np.testing.assert_array_equal(predictions.image.transpose(1, 2, 0), PICTURE)
    for contour, box in zip(predictions.contours, predictions.boxes, strict=True):
        assert contour.shape[1] == 2
        np.testing.assert_allclose([*contour.min(axis=0), *contour.max(axis=0)], box)
    np.testing.assert_array_equal(predictions.polygons[0], predictions.contours[0])


@OLD
def test_crops_and_their_masks_are_boxes_with_5_px_around(predictions: TensorPredictions) -> None:
    for crop, mask, box, area in zip(
        predictions.crops, predictions.crop_masks, predictions.boxes, predictions.areas, strict=True
    ):
        low, high = np.maximum(np.floor(box[:2]) - 5, 0), np.minimum(np.ceil(box[2:]) + 5, [700, 500])
        width, height = (high - low).astype(int)
        assert (crop.shape, mask.shape) == ((3, height, width), (1, height, width))
        assert mask.sum() == pytest.approx(area, rel=0.05, abs=8)


@OLD
@pytest.mark.parametrize(
    ("rows", "count"), [(0, 1), (-1, 1), (slice(2, 5), 3), ([0, 3], 2), ((1,), 1), (np.int64(2), 1)]
)
def test_some_predictions_are_predictions_again(predictions: TensorPredictions, rows: object, count: int) -> None:
    some = predictions[rows]
    assert isinstance(some, TensorPredictions)
    assert len(some) == count
    assert some.image_path == predictions.image_path


@OLD
def test_saving_makes_the_files_that_it_made(predictions: TensorPredictions, tmp_path: Path) -> None:
    folder = predictions.save(str(tmp_path / "out"), identifier="abc", wait=True)
    assert folder == str(tmp_path / "out" / "beetles")
    made = {file.relative_to(folder).as_posix() for file in Path(folder).rglob("*") if file.is_file()}
    assert made == {
        "metadata_beetles_UUID_abc.json",
        "overview_beetles_UUID_abc.jpg",
        *(f"crops/crop_beetles_CROPNUMBER_{row}_UUID_abc.png" for row in range(len(predictions))),
    }
    saved = Path(folder) / "metadata_beetles_UUID_abc.json"
    assert json.loads(saved.read_text(encoding="utf-8")).keys() >= FORMER_KEYS
    assert TensorPredictions.load(str(saved)).instances == predictions.instances


@OLD
def test_saving_may_leave_out_parts_or_put_them_elsewhere(predictions: TensorPredictions, tmp_path: Path) -> None:
    assert predictions.save(str(tmp_path / "out"), overview=str(tmp_path / "all"), crops=False, metadata=False) is None
    assert [file.name for file in (tmp_path / "all").iterdir()] == ["overview_beetles_UUID_None.jpg"]
    assert not (tmp_path / "out").exists()
    predictions.save(str(tmp_path / "out"), overview=False, crops=str(tmp_path / "crops"), basename="b", identifier="i")
    assert [file.name for file in (tmp_path / "out" / "b").iterdir()] == ["metadata_b_UUID_i.json"]
    assert len(list((tmp_path / "crops").glob("crop_b_CROPNUMBER_*_UUID_i.png"))) == len(predictions)


@OLD
@pytest.mark.parametrize(("mask", "bands"), [(False, 3), (True, 4)])
def test_crops_are_saved_with_or_without_their_masks(
    predictions: TensorPredictions, tmp_path: Path, mask: bool, bands: int
) -> None:
    paths = predictions.save_crops(str(tmp_path), mask=mask)
    assert paths[1] == str(tmp_path / "crop_beetles_CROPNUMBER_1_.png")
    assert [pyvips.Image.new_from_file(path).bands for path in paths] == [bands] * len(predictions)


@OLD
def test_what_is_serialised_is_loaded_again_as_a_file_and_as_a_mapping(
    predictions: TensorPredictions, tmp_path: Path
) -> None:
    predictions.serialize(str(tmp_path / "found"), identifier="abc")
    loaded = TensorPredictions.load(str(tmp_path / "found.json"))
    assert loaded.instances == TensorPredictions.load(predictions.json_data).instances == predictions.instances
    assert len(loaded.crops) == len(predictions)


@OLD
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_plot_is_a_file_or_an_array_in_the_order_of_opencv(
    predictions: TensorPredictions, tmp_path: Path, suffix: str
) -> None:
    outpath = str(tmp_path / f"plot{suffix}")
    assert predictions.plot(outpath=outpath) == outpath
    with Image.open(outpath) as picture:
        assert picture.size == (700, 500)
    drawn = predictions.plot()
    assert isinstance(drawn, np.ndarray)
    np.testing.assert_array_equal(drawn[..., ::-1], predictions.instances.overview(flat_bug.open_image(PICTURE)))
    smaller = predictions.plot(scale=0.5)
    assert isinstance(smaller, np.ndarray)
    assert smaller.shape == (250, 350, 3)


@OLD
def test_settings_have_their_former_names(path: str, tmp_path: Path) -> None:
    former = Predictor(Oracle(), cfg={"SCORE_THRESHOLD": 0.3, "OVERLAP_METRIC": "IOS", "TIME": False})
    assert former.set_hyperparameters(BATCH_SIZE=2, MINIMUM_TILE_OVERLAP=64, OVERLAP_METRIC="IoU") is former
    settings = former.predictor.settings
    assert (settings.score_threshold, settings.batch_size, settings.minimum_tile_overlap) == (0.3, 2, 64)
    assert settings.overlap_metric == "IoU"
    assert len(former.set_hyperparameters(SCORE_THRESHOLD=0.9999)(path)) == 0
    (tmp_path / "cfg.yaml").write_text("IOU_THRESHOLD: 0.4\n", encoding="utf-8")
    assert Predictor(Oracle(), cfg=tmp_path / "cfg.yaml").predictor.settings.overlap_threshold == 0.4
    with pytest.raises(ConfigError, match="unknown setting 'SCORE'"):
        former.set_hyperparameters(SCORE=1)


@OLD
def test_what_is_chosen_for_one_image_is_not_chosen_for_the_next(path: str) -> None:
    former = Predictor(Oracle())
    assert (former(path, single_scale=True).instances.levels == 1).all()
    assert former(path, scale_before=0.5).instances.levels.max() <= 0.5
    assert former.predictor.settings == flat_bug.Predictor(Oracle()).settings
    assert former(path).instances == flat_bug.Predictor(Oracle())(path)


@OLD
def test_what_was_set_holds_for_each_image_that_nothing_else_is_chosen_for(path: str) -> None:
    former = Predictor(Oracle(), cfg={"single_scale": True, "scale_before": 0.5})
    for chosen in ({}, {"scale_before": 1}, {"single_scale": False}):
        settings = PredictSettings.model_validate({"single_scale": True, "scale_before": 0.5} | chosen)
        assert former(path, **chosen).instances == flat_bug.Predictor(Oracle(), settings)(path)


@OLD
def test_devices_are_lists_and_numbers_too() -> None:
    assert Predictor(Oracle(), device=["cpu"]).predictor.card.name == Oracle().card.name
    with pytest.raises(UsageError, match="2 devices"):
        Predictor(Oracle(), device=[0, 1])


@OLD
def test_nothing_is_downloaded_and_no_pickle_is_opened_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match="no such weight file"):
        Predictor("flat_bug_M_v2.pt")
    (tmp_path / "flat_bug_M_v2.pt").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(WeightsError, match="can run any code") as caught:
        Predictor("flat_bug_M_v2.pt")
    assert "trust_weights=True" in caught.value.mend


@OLD
def test_what_needs_the_image_or_its_name_says_so_where_nobody_knows_it(tmp_path: Path) -> None:
    unnamed = Predictor(Oracle())(draw(90, 80, [(shapely.box(20, 20, 60, 50), RED)]).transpose(2, 0, 1))
    with pytest.raises(UsageError, match="called"):
        unnamed.save(str(tmp_path))
    loaded = TensorPredictions.load({**unnamed.json_data, "image_path": ""})
    with pytest.raises(ImageError, match="where the image is"):
        loaded.plot()


def test_every_former_name_says_what_to_use_now(predictions: TensorPredictions, tmp_path: Path) -> None:
    with pytest.warns(DeprecationWarning, match="use flat_bug.Predictor") as told:
        former = Predictor(Oracle())
    assert told[0].filename == __file__
    names = ["boxes", "confs", "classes", "scales", "contours", "polygons", "areas", "image", "crops", "crop_masks"]
    for name in [*names, "json_data"]:
        with pytest.warns(DeprecationWarning, match=f"TensorPredictions.{name} is of flat-bug 1.x; use ") as told:
            getattr(predictions, name)
        assert told[0].filename == __file__
    with pytest.warns(DeprecationWarning, match="PredictSettings"):
        former.set_hyperparameters(BATCH_SIZE=2)
    with pytest.warns(DeprecationWarning, match="Instances.overview"):
        predictions.plot()
    with pytest.warns(DeprecationWarning, match="Instances.save"):
        predictions.save(str(tmp_path))


@OLD
def test_what_has_no_effect_any_more_is_said(predictions: TensorPredictions, path: str) -> None:
    with pytest.warns(UserWarning, match="linewidth, alpha: without effect") as told:
        predictions.plot(linewidth=5, alpha=0.9)
    assert [one.filename for one in told if one.category is UserWarning] == [__file__]
    with pytest.warns(UserWarning, match="scale_increment: without effect"):
        Predictor(Oracle())(path, scale_increment=0.5)
