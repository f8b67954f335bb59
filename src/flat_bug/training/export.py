"""Export a checkpoint to ONNX with its card."""

from pathlib import Path


def export_run(run: Path, checkpoint: Path) -> Path:
    return checkpoint
