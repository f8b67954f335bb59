"""flat-bug: find, outline and measure every arthropod in images of any size.

Names are imported when they are first used, so that ``import flat_bug`` stays fast and needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flat_bug.config import PredictSettings
    from flat_bug.imaging import open_image
    from flat_bug.instances.table import Instances
    from flat_bug.predict import Predictor

    __version__: str

__all__ = ["Instances", "PredictSettings", "Predictor", "__version__", "open_image"]

_HOMES = {
    "Instances": "flat_bug.instances.table",
    "PredictSettings": "flat_bug.config",
    "Predictor": "flat_bug.predict",
    "open_image": "flat_bug.imaging",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("flat-bug")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'flat_bug' has no attribute {name!r}")
