"""Use what the processor has: bfloat16 where it is fast, with a loss that stays in float32; and all its cores."""

from typing import Any

import torch
from ultralytics.engine.trainer import BaseTrainer
from ultralytics.utils.torch_utils import unwrap_model

from flat_bug.processors import usable_processors


def use_hardware(trainer: BaseTrainer, *, amp: bool, threads: int) -> None:
    """Set threads and precision of a trainer whose model is set up.

    Args:
        trainer: An ultralytics trainer.
        amp: Use mixed precision if the device is fast at it.
        threads: Threads of the network on a CPU; 0 is all cores.
    """
    if trainer.device.type == "cpu":
        # Ultralytics leaves one core idle, which on a small machine is half of it.
        torch.set_num_threads(threads or len(usable_processors()))
    # Ultralytics refuses bfloat16 on a CPU, and tests float16 with a model that it downloads. bfloat16 needs no
    # scaling of gradients, so turning it on here, after the set-up, is all there is to do.
    if amp and _has_fast_bfloat16(trainer.device):
        trainer.amp = True
        model = unwrap_model(trainer.model)
        model.criterion = Float32Loss(getattr(model, "criterion", None) or model.init_criterion(), trainer.device.type)
        if trainer.device.type == "cuda":
            torch.set_autocast_dtype("cuda", torch.bfloat16)


class Float32Loss:
    """A loss computed in float32 from the outputs of a network that runs in bfloat16.

    A bfloat16 coordinate is good to two pixels only where a tile is 320 pixels wide.
    """

    def __init__(self, loss: Any, device: str) -> None:
        self.loss = loss
        self.device = device

    def __call__(self, outputs: Any, batch: dict[str, Any]) -> Any:
        """Return what the loss returns."""
        with torch.autocast(self.device, enabled=False):
            return self.loss(_as_float32(outputs), batch)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loss, name)


def _as_float32(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.float() if value.is_floating_point() else value
    if isinstance(value, dict):
        return {key: _as_float32(part) for key, part in value.items()}
    return type(value)(_as_float32(part) for part in value) if isinstance(value, (list, tuple)) else value


def _has_fast_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and torch.cpu._is_amx_tile_supported()  # there is no public name for this
