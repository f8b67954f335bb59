"""Find the right segmenter for a weight file, and make sure that the file is what its card says."""

from pathlib import Path

from pydantic import ValidationError

from flat_bug.errors import WeightsError
from flat_bug.files import sha256_of
from flat_bug.segmenters.base import ModelCard, Segmenter, card_path

DEFAULT_WEIGHTS = Path(__file__).parents[1] / "models" / "flat_bug_default.onnx"


def default_weights() -> Path:
    """Return the weights that come with flat-bug.

    Raises:
        WeightsError: This copy of flat-bug has none.
    """
    if not DEFAULT_WEIGHTS.is_file():
        raise WeightsError(
            "the default weights are missing", where=DEFAULT_WEIGHTS, mend="Name a weight file, or reinstall."
        )
    return DEFAULT_WEIGHTS


def load_segmenter(weights: str | Path | None = None, device: str = "auto", trust_weights: bool = False) -> Segmenter:
    """Load weights, verified against the card beside them if there is one.

    Args:
        weights: An ``.onnx`` file, or an ultralytics ``.pt`` file; by default the embedded weights.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or, for ONNX, ``openvino``.
        trust_weights: Open a ``.pt`` file, which can run any code. Nothing else opens one: a card beside the file
            comes from where the file comes from, and says nothing about who made them.

    Raises:
        WeightsError: The file is absent, corrupt, of an unknown kind, or not the one that its card describes.
        MissingPartError: The part that runs it, or the GPU, is not there.
        UsageError: The device has an unknown name.
    """
    path = default_weights() if weights is None else Path(weights)
    if not path.is_file():
        raise WeightsError("there is no such weight file", where=path, mend="Check the path.")
    card, digest = read_card(path), sha256_of(path)
    if card is not None and card.sha256 and card.sha256 != digest:
        raise WeightsError(
            f"the weights are not the ones that their card describes (sha256 {digest[:12]}…, card {card.sha256[:12]}…)",
            where=path,
            mend=f"Copy both again from their source, or remove {card_path(path).name}.",
        )
    if card is not None:
        card = card.model_copy(update={"sha256": digest})
    if path.suffix.lower() == ".onnx" and device.partition(":")[0] == "openvino":
        from flat_bug.segmenters.openvino import load_openvino  # noqa: PLC0415  # an extra

        return load_openvino(path, card, digest, device)
    if path.suffix.lower() == ".onnx":
        from flat_bug.segmenters.onnx import load_onnx  # noqa: PLC0415  # 0.1 s that a .pt file does not need

        return load_onnx(path, card, digest, device)
    if path.suffix.lower() == ".pt":
        from flat_bug.segmenters.ultralytics import load_checkpoint  # noqa: PLC0415  # needs the extra `train`

        return load_checkpoint(path, card, digest, device, trusted=trust_weights)
    raise WeightsError(f"weights of the kind {path.suffix!r} are unknown", where=path, mend="Give .onnx or .pt.")


def read_card(weights: Path) -> ModelCard | None:
    """Return the card beside a weight file, if there is one.

    Raises:
        WeightsError: The card is not one.
    """
    path = card_path(weights)
    try:
        return ModelCard.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise WeightsError(f"the card of the weights is broken: {error}", where=path) from error
