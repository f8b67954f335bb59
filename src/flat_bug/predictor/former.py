"""The predictor of flat-bug 1.x, over ours."""

from pathlib import Path
from typing import Any, cast

from flat_bug import predict
from flat_bug.config import Dtype, PredictSettings
from flat_bug.errors import ImageError, UsageError
from flat_bug.imaging import open_image
from flat_bug.imaging.arrays import array_of
from flat_bug.predictor.predictions import TensorPredictions
from flat_bug.predictor.warn import formerly, warn, warn_of_no_effect
from flat_bug.segmenters.base import Segmenter

FORMER_INCREMENT = 2 / 3
"""Ratio of neighbouring levels in flat-bug 1.x; here levels halve."""


class Predictor:
    """The predictor of flat-bug 1.x."""

    def __init__(
        self,
        model: str | Path | Segmenter | None = None,
        cfg: dict[str, Any] | str | Path | None = None,
        device: Any = "cpu",
        dtype: Any = "auto",
        *,
        trust_weights: bool = False,
    ) -> None:
        """Load a model.

        Args:
            model: A weight file; by default the weights that come with flat-bug. Nothing is downloaded.
            cfg: Settings by their former or new names, or a YAML file of them.
            device: A name, ``torch.device`` or number of a GPU, or a list of one of these.
            dtype: A name or ``torch.dtype``.
            trust_weights: Open a ``.pt`` file, which can run any code.

        Raises:
            ConfigError: A setting is unknown or impossible.
            WeightsError: The weights cannot be used.
            MissingPartError: The part that runs them, or the GPU, is not there.
            UsageError: There are several devices.
        """
        warn("flat_bug.predictor.Predictor is of flat-bug 1.x; use flat_bug.Predictor", DeprecationWarning)
        precision = cast(Dtype, str(dtype).removeprefix("torch."))
        chosen = PredictSettings.from_mapping({"dtype": precision} | _settings(cfg))
        self.predictor = predict.Predictor(model, chosen, _device(device), trust_weights=trust_weights)

    @formerly("flat_bug.Predictor(model, PredictSettings(score_threshold=…))")
    def set_hyperparameters(self, /, **values: Any) -> "Predictor":
        """Change settings, by their former or new names, and return this predictor.

        Raises:
            ConfigError: A setting is unknown or impossible.
        """
        self.predictor = self._changed(_settings(values))
        return self

    @formerly("flat_bug.Predictor(model)(image), which returns Instances")
    def pyramid_predictions(
        self,
        image: Any,
        path: str | None = None,
        scale_increment: float = FORMER_INCREMENT,
        scale_before: float | None = None,
        single_scale: bool | None = None,
    ) -> TensorPredictions:
        """Find the animals in an image: a path, or a tensor or an array ``(3, h, w)``; see ``flat_bug.Predictor``.

        What is not given of ``scale_before`` and ``single_scale`` is as it was set.
        """
        warn_of_no_effect({"scale_increment": (scale_increment, FORMER_INCREMENT)})
        given = {"scale_before": scale_before, "single_scale": single_scale}
        source = image if isinstance(image, str | Path) else _bands_last(image)
        found = self._changed({name: value for name, value in given.items() if value is not None})(source)
        where = str(source) if isinstance(source, str | Path) else path
        return TensorPredictions(found, open_image(source), where)

    __call__ = pyramid_predictions

    def _changed(self, values: dict[str, Any]) -> predict.Predictor:
        """Return the predictor with other settings, by their new names."""
        settings = PredictSettings.from_mapping(self.predictor.settings.model_dump() | values)
        return predict.Predictor(self.predictor.segmenter, settings)


def _settings(values: dict[str, Any] | str | Path | None) -> dict[str, Any]:
    """Return settings, by their new names, of a mapping or of a YAML file."""
    if isinstance(values, str | Path):
        chosen = PredictSettings.from_yaml(Path(values))
        return chosen.model_dump(exclude_unset=True)
    # The former names of the metrics are in capitals.
    metrics = {"IOU": "IoU", "IOS": "IoS"}
    known = {key: metrics.get(str(value), value) for key, value in (values or {}).items()}
    return PredictSettings.from_mapping(known).model_dump(exclude_unset=True)


def _device(device: Any) -> str:
    """Return our name of a device.

    Raises:
        UsageError: There are several.
    """
    if isinstance(device, list | tuple):
        if len(device) != 1:
            raise UsageError(
                f"{len(device)} devices cannot work on one image",
                mend="Give one, or `fb predict --device cuda:0,cuda:1`.",
            )
        device = device[0]
    return f"cuda:{device}" if isinstance(device, int) else str(device)


def _bands_last(image: Any) -> Any:
    """Return a tensor or an array ``(3, h, w)`` as our array of an image.

    Raises:
        ImageError: It is none.
    """
    array = array_of(image)
    if array is None or array.ndim != 3 or array.shape[0] != 3:
        seen = type(image).__name__ if array is None else f"an array of shape {array.shape}"
        raise ImageError(
            f"{seen} is no path and no tensor (3, h, w)",
            where="pyramid_predictions",
            mend="flat_bug.Predictor takes arrays (h, w, 3) as they are.",
        )
    return array.transpose(1, 2, 0)
