"""Shapes of known size are measured as what they are, wherever they lie and however they are turned."""

import json
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import affinity
from tests.bodies import crescent, ellipse, rectangle, with_legs
from tests.outlines import outlines, polygons

from flat_bug.imaging import open_image
from flat_bug.instances.coverage import coverage
from flat_bug.instances.measurement_table import MEASURED
from flat_bug.instances.table import Instances
from flat_bug.measurement import Scale, measured, scale_of, with_scale
from flat_bug.measurement.body import bodies

SIZES = ("length_px", "width_px", "feret_max_px", "feret_min_px", "area_px2", "perimeter_px")


def table_of(*shapes: shapely.Geometry, levels: float = 1.0) -> Instances:
    column = np.empty(len(shapes), object)
    column[:] = shapes
    return Instances.from_polygons(
        column, np.full(len(shapes), 0.5), width=1000, height=1000, levels=np.full(len(shapes), levels)
    )


def measure(*shapes: shapely.Geometry) -> dict[str, npt.NDArray[np.float64]]:
    return dict(measured(table_of(*shapes)).measurements)


def length_and_width(shape: shapely.Geometry) -> tuple[float, float]:
    found = measure(shape)
    return float(found["length_px"][0]), float(found["width_px"][0])


@pytest.mark.parametrize("angle", [0, 17, 45, 90, 133])
@pytest.mark.parametrize(("length", "width"), [(40, 10), (40, 20), (30, 25), (400, 10)])
def test_a_rectangle_at_any_angle(length: float, width: float, angle: float) -> None:
    assert length_and_width(rectangle(length, width, angle)) == pytest.approx((length, width), rel=0.005)


@pytest.mark.parametrize("ratio", [1, 1.2, 2, 3, 5, 8])
def test_an_ellipse_is_as_long_and_wide_as_its_axes(ratio: float) -> None:
    assert length_and_width(ellipse(20 * ratio, 20, 33)) == pytest.approx((20 * ratio, 20), rel=0.005)


@pytest.mark.parametrize("degrees", [60, 180, 300])
def test_a_bent_body_is_measured_along_its_bend(degrees: float) -> None:
    along = np.radians(degrees) * 50 + 16
    assert length_and_width(crescent(50, degrees, 16)) == pytest.approx((along, 16), rel=0.01)


def test_legs_and_antennae_are_no_body_but_calipers_hold_them() -> None:
    found = measure(with_legs(ellipse(60, 20), 2, 40))
    assert found["length_px"][0] == pytest.approx(60, rel=0.01)
    assert found["width_px"][0] == pytest.approx(20, rel=0.02)
    assert found["feret_max_px"][0] > 80


def test_a_body_with_a_waist_is_measured_whole_even_where_the_mask_comes_apart() -> None:
    abdomen, thorax = ellipse(30, 20), affinity.translate(ellipse(16, 16), 34)
    joined = [shapely.union_all([abdomen, thorax, shapely.box(10, -half, 30, half)]) for half in (2, 1, 0.5)]
    for shape in (*joined, shapely.union_all([abdomen, thorax])):
        assert length_and_width(shape) == pytest.approx((15 + 42, 20), rel=0.01)


def test_a_speck_beside_an_animal_is_not_part_of_its_length() -> None:
    assert length_and_width(shapely.union_all([ellipse(60, 20), shapely.box(50, 0, 53, 3)]))[0] == pytest.approx(
        60, 0.01
    )


def test_a_glint_changes_the_area_and_neither_length_nor_width() -> None:
    whole = ellipse(60, 20)
    found = measure(whole, whole.difference(shapely.box(-3, -3, 3, 3)))
    assert np.diff(found["area_px2"]) == pytest.approx(-36)
    assert np.diff(found["length_px"]) == pytest.approx(0, abs=0.01)
    assert np.diff(found["width_px"]) == pytest.approx(0, abs=0.1)


def test_a_large_hole_is_part_of_the_shape() -> None:
    ring = ellipse(60, 60).difference(ellipse(40, 40))
    assert length_and_width(ring)[1] == pytest.approx(10, rel=0.01)


def test_one_pixel_and_nothing() -> None:
    found = measure(shapely.box(3, 4, 4, 5), shapely.Polygon())
    assert [found[name][0] for name in SIZES] == pytest.approx([1, 1, np.sqrt(2), 1, 1, 4])
    assert found["area_px2"][1] == found["perimeter_px"][1] == 0
    assert np.isnan(
        [found[name][1] for name in ("length_px", "width_px", "feret_max_px", "solidity", "centroid_x")]
    ).all()


def test_an_image_without_animals_has_all_columns_and_no_rows() -> None:
    found = measured(Instances.empty(5, 5), None, Scale(0.1)).measurements
    assert set(found) == set(MEASURED)
    assert {len(column) for column in found.values()} == {0}


def test_a_hair_that_is_thinner_than_anything() -> None:
    found = measure(shapely.box(0, 0, 500, 1e-6))
    assert found["length_px"][0] == pytest.approx(500, rel=0.01)


def test_position_direction_and_form() -> None:
    found = measure(affinity.translate(rectangle(40, 10, 30), 100, 50), rectangle(40, 10, 90))
    assert found["orientation_deg"] == pytest.approx([30, 90])
    assert (found["centroid_x"][0], found["centroid_y"][0]) == pytest.approx((120, 55))
    assert found["elongation"] == pytest.approx([4, 4], rel=0.005)
    assert found["solidity"] == pytest.approx([1, 1])


@given(polygons(), st.floats(0, 360), st.floats(0.01, 100), st.tuples(*[st.floats(-1e4, 1e4)] * 2))
@settings(max_examples=60)
def test_sizes_turn_move_and_grow_with_the_animal(
    shape: shapely.Polygon, angle: float, factor: float, offset: tuple[float, float]
) -> None:
    other = affinity.translate(affinity.scale(affinity.rotate(shape, angle), factor, factor), *offset)
    found = measure(shape, other)
    for name in ("feret_max_px", "feret_min_px", "perimeter_px"):
        assert found[name][1] == pytest.approx(found[name][0] * factor, rel=1e-3)
    assert found["area_px2"][1] == pytest.approx(found["area_px2"][0] * factor**2, rel=1e-6)
    assert found["width_px"][1] == pytest.approx(found["width_px"][0] * factor, rel=0.05)


@given(st.lists(outlines(), min_size=1, max_size=5))
@settings(max_examples=40)
def test_calipers_find_what_comparing_every_corner_with_every_side_finds(shapes: list[shapely.Geometry]) -> None:
    found = measure(*shapes)
    for row, shape in enumerate(shapes):
        ring = shapely.get_coordinates(shapely.convex_hull(shape))
        sides = np.diff(ring, axis=0)
        normals = np.stack([-sides[:, 1], sides[:, 0]], axis=1) / np.hypot(*sides.T)[:, None]
        reach = ring @ normals.T
        assert found["feret_min_px"][row] == pytest.approx((reach.max(axis=0) - reach.min(axis=0)).min())
        longest = np.hypot(*(ring[:, None] - ring[None]).transpose(2, 0, 1)).max()
        assert found["feret_max_px"][row] == pytest.approx(longest)


@given(st.floats(1.5, 8), st.floats(0, 360), st.floats(0.01, 100), st.tuples(*[st.floats(-1e4, 1e4)] * 2))
@settings(max_examples=40)
def test_the_length_turns_moves_and_grows_with_the_animal(
    ratio: float, angle: float, factor: float, offset: tuple[float, float]
) -> None:
    shape = with_legs(ellipse(20 * ratio, 20), 2, 40)
    other = affinity.translate(affinity.scale(affinity.rotate(shape, angle), factor, factor), *offset)
    found = measure(shape, other)
    assert found["length_px"][1] == pytest.approx(found["length_px"][0] * factor, rel=0.03)


@given(st.lists(outlines(), min_size=1, max_size=6))
@settings(max_examples=40)
def test_every_shape_has_sizes_that_fit_together(shapes: list[shapely.Geometry]) -> None:
    found = measure(*shapes)
    assert all(np.isfinite(found[name]).all() for name in SIZES)
    body = bodies(np.array(shapes, object))
    assert set(shapely.get_type_id(body)) == {shapely.GeometryType.POLYGON}
    # The largest disc that fits is no wider than calipers that hold the shape.
    assert (found["width_px"] <= found["feret_min_px"] * 1.001).all()
    assert (found["length_px"] >= found["width_px"] * 0.999).all()
    assert ((found["solidity"] > 0) & (found["solidity"] <= 1 + 1e-9)).all()


@given(st.lists(polygons(), min_size=2, max_size=6))
@settings(max_examples=20)
def test_an_animal_is_measured_alike_alone_and_among_others(shapes: list[shapely.Polygon]) -> None:
    together = measure(*shapes)
    for row, shape in enumerate(shapes):
        alone = measure(shape)
        assert alone["length_px"][0] == pytest.approx(together["length_px"][row], rel=0.02)
        assert alone["width_px"][0] == pytest.approx(together["width_px"][row], rel=0.02)


@pytest.mark.parametrize("shape", [ellipse(120, 40, 25), rectangle(100, 30, 60), with_legs(ellipse(120, 50), 6, 90)])
def test_scikit_image_finds_the_same_on_a_mask(shape: shapely.Polygon) -> None:
    from skimage.measure import regionprops

    moved = affinity.translate(shape, 150, 150)
    (region,) = regionprops((coverage(moved, 0, 0, 300, 300) >= 0.5).astype(np.uint8))
    found = {name: float(column[0]) for name, column in measure(moved).items()}
    assert found["area_px2"] == pytest.approx(region.area, rel=0.01)
    assert found["feret_max_px"] == pytest.approx(region.feret_diameter_max, rel=0.02)
    assert found["solidity"] == pytest.approx(region.solidity, rel=0.04)
    assert found["perimeter_px"] == pytest.approx(region.perimeter_crofton, rel=0.05)
    y, x = region.centroid
    assert (found["centroid_x"], found["centroid_y"]) == pytest.approx((x + 0.5, y + 0.5), abs=0.1)
    # There 0 points down and turns the other way.
    assert np.sin(np.radians(found["orientation_deg"] - 90) + region.orientation) == pytest.approx(0, abs=0.02)


def test_outlines_of_many_corners_take_bounded_memory() -> None:
    huge = shapely.Point(5000, 5000).buffer(5000, quad_segs=20_000)
    tracemalloc.start()
    found = measure(huge)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found["length_px"][0] == pytest.approx(10_000, rel=0.001)
    assert found["feret_max_px"][0] == pytest.approx(10_000, rel=0.001)
    assert peak < 200e6


class TestUncertainty:
    """An outline may lie half a mask cell off and be drawn wrong, and the scale is uncertain as well."""

    def test_coarse_levels_are_less_certain(self) -> None:
        fine, coarse = (measured(table_of(ellipse(60, 20), levels=level)).measurements for level in (1.0, 0.25))
        assert coarse["area_px2_sd"] == pytest.approx(4 * fine["area_px2_sd"])
        assert fine["area_px2_sd"] == pytest.approx(fine["perimeter_px"] * 2 / np.sqrt(3))
        assert (coarse["length_px_sd"] > fine["length_px_sd"]).all()

    def test_it_is_what_a_moved_outline_changes(self) -> None:
        # A small animal: the larger it is, the more weighs how well it is drawn.
        shape, step = ellipse(3, 1), 0.001
        found = measure(shape, shape.buffer(step, quad_segs=32))
        (sd,) = table_of(shape).levels * 2 / np.sqrt(3)
        for name in SIZES:
            change = (found[name][1] - found[name][0]) / step * sd
            assert change == pytest.approx(found[f"{name}_sd"][0], rel=0.03)

    def test_a_large_animal_is_as_uncertain_as_it_is_drawn(self) -> None:
        found = measure(ellipse(6000, 2000))
        for name in ("length_px", "width_px", "feret_max_px", "feret_min_px"):
            assert found[f"{name}_sd"] / found[name] == pytest.approx(0.08, rel=0.01)
        assert found["perimeter_px_sd"] / found["perimeter_px"] == pytest.approx(0.1, rel=0.01)

    def test_that_of_the_scale_is_added_twice_to_an_area(self) -> None:
        table = measured(table_of(ellipse(600, 200)), None, Scale(0.1, 0.05))
        found = {name: float(column[0]) for name, column in table.measurements.items()}
        assert found["length_mm"] == pytest.approx(60, rel=0.001)
        relative = np.hypot(found["length_px_sd"] / found["length_px"], 0.05)
        assert found["length_mm_sd"] / found["length_mm"] == pytest.approx(relative)
        relative = np.hypot(found["area_px2_sd"] / found["area_px2"], 2 * 0.05)
        assert found["area_mm2_sd"] / found["area_mm2"] == pytest.approx(relative)


def test_another_scale_changes_millimetres_only() -> None:
    table = measured(table_of(ellipse(60, 20)), None, Scale(0.1, 0.05))
    assert scale_of(table) == Scale(0.1, 0.05)
    other = with_scale(table, Scale(0.2))
    assert other.measurements["length_mm"] == pytest.approx(2 * table.measurements["length_mm"])
    assert other.measurements["length_px"] == table.measurements["length_px"]
    without = with_scale(table, None)
    assert not [name for name in without.measurements if "mm" in name]
    assert with_scale(without, Scale(0.1, 0.05)) == table


@pytest.mark.real
@pytest.mark.parametrize("name", ["vespai-hornets", "bumblebees", "ami-moth-sheets"])
def test_real_animals_have_sizes_and_colours(real_data: Path, name: str) -> None:
    labels = json.loads((real_data / name / "instances_default.json").read_text())
    image = labels["images"][0]
    own = [entry for entry in labels["annotations"] if entry["image_id"] == image["id"]]
    shapes = [_of_coco(entry["segmentation"]) for entry in own if isinstance(entry["segmentation"], list)]
    table = replace(table_of(*shapes), width=image["width"], height=image["height"])
    found = measured(table, open_image(real_data / name / image["file_name"]), Scale(0.05, 0.01)).measurements
    assert len(found["length_mm"])
    assert all(np.isfinite(column).all() for column in found.values())
    assert (found["length_px"] >= found["width_px"]).all()
    assert ((found["lab_l"] > 0) & (found["lab_l"] < 100)).all()


def _of_coco(rings: list[list[float]]) -> shapely.Geometry:
    parts = [shapely.Polygon(np.reshape(ring, (-1, 2))) for ring in rings if len(ring) >= 8]
    return shapely.union_all(shapely.make_valid(np.array(parts, object), method="structure", keep_collapsed=False))
