"""Which model is used, and how it is applied."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from flat_bug.config import Dtype, PredictSettings
from flat_bug.errors import UsageError


@Parameter(name="*", group=Group("Model", sort_key=2))
@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Which model, and how it is applied.

    Attributes:
        model_weights: Weights, .onnx or .pt; by default those that come with flat-bug.
        trust_weights: Open a .pt file. Such a file can run any code; weights in an .onnx file cannot.
        device: auto (the default), cpu, cuda, or cuda:1 (or just 1). Several, as in cuda:0,cuda:1, are used at a time.
        dtype: Precision of the network; by default what is fast on the device without harm to the outlines. An .onnx
            file says itself in which it computes, and a processor has no fast float16.
        config: YAML file with settings; the options below come before it.
        score_threshold: Keep animals that score above this; by default what the model's card says.
        scale_before: Scale each image by this before everything else; 1 by default.
        single_scale: Look at the native scale only: faster, but misses animals larger than a tile.
        exhaustive: Look at every tile of every level: slower, for the last animal; by default fine levels are looked at
            only where coarser ones call for it.
        refine: Look at small animals, and at those seen on a coarse level, once more, magnified, for a better outline.
        nms_metric: How the overlap of two outlines is measured: over their union (the default), or the smaller one.
    """

    model_weights: Annotated[Path | None, Parameter(name=["--model-weights", "-w"])] = None
    trust_weights: bool = False
    device: Annotated[str, Parameter(name=["--device", "--gpu", "-g"])] = "auto"
    dtype: Annotated[Dtype | None, Parameter(name=["--dtype", "-d"])] = None
    config: Path | None = None
    score_threshold: float | None = None
    scale_before: Annotated[float | None, Parameter(name=["--scale-before", "-s"])] = None
    single_scale: bool = False
    exhaustive: bool = False
    refine: bool = False
    nms_metric: Annotated[Literal["IoU", "IoS"] | None, Parameter(name=["--nms-metric", "-M"])] = None

    def settings(self) -> PredictSettings:
        """Return the settings of the configuration, and over them those of the command line."""
        given = {
            "score_threshold": self.score_threshold,
            "scale_before": self.scale_before,
            "single_scale": self.single_scale or None,
            "exhaustive": self.exhaustive or None,
            "refine": self.refine or None,
            "dtype": self.dtype,
            "overlap_metric": self.nms_metric,
        }
        configured = PredictSettings.from_yaml(self.config) if self.config else PredictSettings()
        overrides = {name: value for name, value in given.items() if value is not None}
        return PredictSettings.from_mapping(configured.model_dump() | overrides, where="command line")

    def devices(self) -> list[str]:
        """Return the devices under their present names; flat-bug 1.x also had plain numbers."""
        names = [name.strip() for name in self.device.split(",")]
        if not all(names):
            raise UsageError("a device has no name", where=f"--device {self.device}", mend="Write cuda:0,cuda:1")
        return [f"cuda:{name}" if name.isdigit() else name for name in names]
