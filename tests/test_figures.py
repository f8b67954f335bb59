"""Figures of the report: recall and precision against size, drawn in the colours of the page."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import polars as pl
import pytest

from flat_bug.evaluation.figures import RUG_TICKS, SizePanel, size_panels
from flat_bug.evaluation.scores import POOLED
from flat_bug.evaluation.standings import ReportModel, Standing
from flat_bug.evaluation.tables import OBJECT_SCHEMA


def standing(sizes: list[float], found: list[bool], *, slot: int = 0, dataset: str = "a") -> Standing:
    rows = [
        {
            **dict.fromkeys(OBJECT_SCHEMA),
            "dataset": dataset,
            "image": "1.jpg",
            "kind": "matched" if hit else "missed",
            "gt_size": size,
            "pred_size": size if hit else None,
            "ignored": False,
        }
        for size, hit in zip(sizes, found, strict=True)
    ]
    return Standing(ReportModel(name=f"model {slot}"), slot=slot, objects=pl.DataFrame(rows, schema=OBJECT_SCHEMA))


@pytest.fixture(scope="module")
def panel() -> SizePanel:
    generator = np.random.default_rng(0)
    sizes = generator.lognormal(4, 0.7, 400)
    found = generator.random(400) < 1 / (1 + (30 / sizes) ** 2)
    models = [standing(sizes.tolist(), found.tolist(), slot=slot) for slot in (0, 7)]
    (panel,) = size_panels(models, ["a"], colours=6)
    return panel


def test_each_dataset_has_recall_and_precision(panel: SizePanel) -> None:
    assert panel.dataset == "a"
    assert [figure.measure for figure in panel.figures] == ["recall", "precision"]


def test_a_figure_is_well_formed_and_brings_no_style_of_its_own(panel: SizePanel) -> None:
    for figure in panel.figures:
        ET.fromstring(figure.svg)  # noqa: S314 - our own figure
        assert not re.search(r"<style|<metadata|<\?xml|<!DOCTYPE|font-family|#[0-9a-f]{6}", figure.svg)
        assert not re.search(r'<g id=|(src|href)="(?!#)', figure.svg)


def test_each_model_has_its_parts_in_a_group_of_its_own(panel: SizePanel) -> None:
    svg = ET.fromstring(panel.figures[0].svg)  # noqa: S314 - our own figure
    groups = [group.get("class") for group in svg.iter("{http://www.w3.org/2000/svg}g") if group.get("class")]
    # Ribbon, smooth, dots of large bins and of small ones, and a rug of two lengths.
    assert set(groups) == {"series s0", "series s7"}
    assert groups.count("series s0") == groups.count("series s7") >= 5
    assert "stroke-dasharray" in panel.figures[0].svg, "beyond the palette a model has another dash"


def test_colours_come_from_the_page(panel: SizePanel) -> None:
    for name in ("--c", "--grid", "--muted"):
        assert f"var({name})" in panel.figures[0].svg


def test_the_curve_is_told_in_words(panel: SizePanel) -> None:
    words = panel.figures[0].description
    shares = [float(share) for share in re.findall(r"([\d.]+) at \d+ px", words)[:3]]
    assert words.startswith("model 0: ")
    assert shares == sorted(shares), "larger animals are found more often"


def test_a_rug_of_many_objects_stays_small() -> None:
    models = [standing([10.0 + n for n in range(5000)], [True] * 5000)]
    (panel,) = size_panels(models, ["a"], colours=6)
    assert len(panel.figures[0].svg) < 400 * RUG_TICKS


def test_the_pooled_panel_holds_every_dataset() -> None:
    one, other = standing([20.0] * 3, [True] * 3), standing([80.0] * 3, [False] * 3, dataset="b")
    both = Standing(one.model, objects=pl.concat([one.objects, other.objects]))
    pooled, first, second = size_panels([both], [POOLED, "a", "b"], colours=6)
    assert pooled.figures[0].description == "model 0: 1.00 at 20 px, 0.00 at 80 px"
    assert first.figures[0].description == "model 0: 1.00 at 20 px"
    assert second.figures[1].description == "model 0: nothing"


@pytest.mark.parametrize("sizes", [[0.5], [33.0, 33.0], [1.0, 90_000.0]], ids=["tiny", "alike", "far apart"])
def test_any_sizes_can_be_drawn(sizes: list[float]) -> None:
    (panel,) = size_panels([standing(sizes, [True] * len(sizes))], ["a"], colours=6)
    assert len(re.findall(r"<text", panel.figures[0].svg)) > 4, "the axes have numbers"


def test_without_objects_there_is_no_panel() -> None:
    assert size_panels([], [POOLED], colours=6) == ()
    assert size_panels([standing([], [])], [POOLED, "a"], colours=6) == ()
