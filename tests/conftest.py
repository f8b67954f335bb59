"""What tests share: real images where they are present, and the rule that CI skips no test for want of a part."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, settings

from flat_bug.training.environment import PARTS

# A busy machine is no reason for a test to fail.
settings.register_profile("flat-bug", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("flat-bug")

SHARED = Path(__file__).parents[2] / "shared"


def missing(part: str) -> NoReturn:
    """Skip a test for want of a part; fail instead where every part is required."""
    if os.environ.get("FLAT_BUG_REQUIRE_ALL") == "1":
        pytest.fail(f"{part} is required here")
    pytest.skip(f"needs {part}")


def needs(module: str, extra: str) -> None:
    """Skip or fail a test where a module of one of our extras is not installed."""
    if find_spec(module) is None:
        missing(f"the extra {extra}")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Ask for the parts of a marked test before its fixtures use them."""
    if item.get_closest_marker("train"):
        for part in PARTS:
            needs(part, "train")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real datasets, one sub-folder each; they are never part of the repository."""
    folder = SHARED / "data" / "pre-pro"
    if not folder.is_dir():
        pytest.skip("needs real images in ../shared/data")
    return folder


@pytest.fixture(scope="session")
def spots_network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tiny network that finds dark spots of any size up to its tile."""
    # Needs onnx, which most tests do not load.
    from tests.spots import write_network

    return write_network(tmp_path_factory.mktemp("network") / "spots.onnx")
