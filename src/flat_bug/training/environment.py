"""What ultralytics must find in the environment before it is imported: no network, no files outside the run."""

import os
from pathlib import Path


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
