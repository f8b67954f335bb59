"""Which device and which precision torch computes with."""

import logging
from typing import Any

from flat_bug.config import Dtype
from flat_bug.errors import MissingPartError, UsageError

log = logging.getLogger(__name__)


def place_of(device: str) -> str:
    """Return torch's name of a device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.

    Raises:
        MissingPartError: The GPU is not there.
        UsageError: The device has an unknown name.
        ImportError: There is no torch.
    """
    import torch  # noqa: PLC0415  # takes seconds, and is an extra

    name, _, number = device.partition(":")
    if name not in ("auto", "cpu", "cuda") or not (number or "0").isdigit():
        raise UsageError(f"unknown device {device!r}", mend="Choose auto, cpu, cuda or cuda:N.")
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cuda" and not gpus:
        raise MissingPartError("torch finds no GPU here", mend="Choose the device auto or cpu.")
    if name == "cuda" and int(number or 0) >= gpus:
        raise MissingPartError(f"torch finds no GPU {number} here", mend=f"Choose one of 0 to {gpus - 1}.")
    return device if name != "auto" else "cuda" if gpus else "cpu"


def precision_of(dtype: Dtype, place: str) -> Any:
    """Return the precision that torch computes with: what is asked for, if that makes sense on the device.

    By default it is float16 on a GPU, which is twice as fast there, and float32 on a processor. Processors have no
    fast float16: it is many times slower there than float32, so float32 is taken, and that is said.

    Args:
        dtype: What is asked for.
        place: ``cpu``, ``cuda`` or ``cuda:1``.
    """
    import torch  # noqa: PLC0415  # takes seconds, and is an extra

    if dtype == "auto":
        return torch.float16 if place != "cpu" else torch.float32
    if dtype == "float16" and place == "cpu":
        log.warning("a processor does not compute in float16 with any speed; float32 is used")
        return torch.float32
    return getattr(torch, dtype)
