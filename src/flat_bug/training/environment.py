"""What training needs around it, and what ultralytics must find in its environment: no network, no files elsewhere."""

import os
from importlib.util import find_spec
from pathlib import Path

from flat_bug.errors import MissingPartError

PARTS = ("torch", "torchvision", "ultralytics", "onnx", "onnxslim")


def check_parts() -> None:
    """Look for the parts of the extra ``train``, without importing them.

    Raises:
        MissingPartError: One is not installed.
    """
    for part in PARTS:
        if find_spec(part) is None:
            mend = "Install flat-bug[train]: pip install -e '.[train]' in the checkout."
            raise MissingPartError(f"training needs {part}", mend=mend)


def isolate(folder: Path) -> None:
    """Keep ultralytics off the network and its configuration inside ``folder``.

    It decides at import whether it is online, whether it may install packages and where its settings are, so this
    must come before the first import. Later calls in the same process change nothing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["YOLO_OFFLINE"] = "true"
    os.environ["YOLO_AUTOINSTALL"] = "false"
    os.environ["YOLO_CONFIG_DIR"] = str(folder.resolve())
    # Loggers that ultralytics turns on by itself when it finds them installed.
    os.environ["WANDB_MODE"] = "disabled"
    os.environ["COMET_MODE"] = "disabled"
