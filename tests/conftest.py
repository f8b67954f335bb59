"""What tests share: real images where they are present, and the rule that CI skips nothing."""

import os
from pathlib import Path

import pytest

REAL_DATA = Path(__file__).parents[2] / "shared" / "data" / "pre-pro"
TRIAL_WEIGHTS = Path(__file__).parents[2] / "shared" / "models" / "trial-yolo11n-seg-640.onnx"


def missing(what: str) -> None:
    """Skip a test for want of a part; fail instead where every part is required."""
    if os.environ.get("FLAT_BUG_REQUIRE_ALL") == "1":
        pytest.fail(f"{what} is required here")
    pytest.skip(f"needs {what}")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real datasets, one sub-folder each."""
    if not REAL_DATA.is_dir():
        missing("real images in ../shared/data")
    return REAL_DATA
