"""Read the network in an ultralytics checkpoint, of today's or of flat-bug 1.x's making.

Ultralytics' own reader installs packages that a checkpoint names, and looks for a missing file on the Internet. Neither
is wanted here; and checkpoints that were trained with flat-bug 1.x may name parts of it that are no longer there.
"""

import os
import pickle
from pathlib import Path
from typing import Any

from flat_bug.errors import WeightsError
from flat_bug.segmenters.damage import refused_as

OURS = "flat_bug"
PATHS = ("PosixPath", "WindowsPath", "Path", "PurePosixPath", "PureWindowsPath")


def read_checkpoint(weights: Path) -> tuple[Any, dict[str, Any]]:
    """Return the network, float32 and on the processor, and the settings that it was trained with.

    Opening a checkpoint can run any code: the caller trusts it.

    Raises:
        WeightsError: The file holds no network of ultralytics.
        ImportError: There is no torch or no ultralytics.
    """
    # Decided when ultralytics is imported; nothing is installed while somebody predicts.
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    import torch  # noqa: PLC0415  # takes seconds, and is an extra
    import ultralytics  # noqa: F401, PLC0415  # a checkpoint names its classes

    with refused_as("this is not an ultralytics checkpoint", weights, "Copy it again from its source."):
        try:
            # Anything can lie in a pickle; that is what the caller answers for.
            held = torch.load(weights, map_location="cpu", weights_only=False, pickle_module=_Tolerant)
        except (ModuleNotFoundError, AttributeError) as error:
            raise WeightsError(
                f"the checkpoint needs what is not installed here: {error}",
                where=weights,
                mend="Install the ultralytics that it was trained with, or export it to ONNX where it was trained.",
            ) from error
    network = (held.get("ema") or held.get("model")) if isinstance(held, dict) else None
    if not isinstance(network, torch.nn.Module) or not hasattr(network, "model"):
        raise WeightsError(
            "this is not an ultralytics checkpoint: there is no network in it",
            where=weights,
            mend='If it is the state of a Mask R-CNN, put a card beside it that says "kind": "maskrcnn".',
        )
    for layer in network.modules():
        if isinstance(layer, torch.nn.Upsample) and not hasattr(layer, "recompute_scale_factor"):
            layer.recompute_scale_factor = None  # added in torch 1.11
    train_args = held.get("train_args")
    return network.float().eval(), dict(train_args) if isinstance(train_args, dict) else {}


class Forgotten:
    """Stands for an object of flat-bug 1.x that is of no use to a network."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        """Forget it."""


class _Unpickler(pickle.Unpickler):  # the caller trusts the file
    def find_class(self, module: str, name: str) -> Any:
        """Return a class by its name; paths of another system are texts, and what was in flat-bug 1.x is forgotten."""
        if module.startswith("pathlib") and name in PATHS:
            return Path
        try:
            return super().find_class(module, name)
        except (ImportError, AttributeError):
            if module.partition(".")[0] == OURS:
                return Forgotten
            raise


class _Tolerant:
    """The module ``pickle`` as torch asks for it."""

    Unpickler = _Unpickler
    load = staticmethod(pickle.load)
