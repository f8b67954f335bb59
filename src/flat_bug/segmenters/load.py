"""Find the right segmenter for a weight file, and make sure that the file is what its card says."""

import hashlib
from pathlib import Path

from pydantic import ValidationError

from flat_bug.config import Dtype
from flat_bug.errors import WeightsError
from flat_bug.files import sha256_of
from flat_bug.segmenters.base import ModelCard, Segmenter, card_path

DEFAULT_WEIGHTS = Path(__file__).parents[1] / "models" / "flat_bug_default.onnx"

STATES = (".pt", ".pth")
"""Files of torch."""


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


def load_segmenter(
    weights: str | Path | None = None, device: str = "auto", trust_weights: bool = False, dtype: Dtype = "auto"
) -> Segmenter:
    """Load weights, verified against the card beside them if there is one.

    Args:
        weights: An ``.onnx`` file, an ``.xml`` file of OpenVINO, an ultralytics ``.pt`` file, or the state of a Mask
            R-CNN (``.pt`` or ``.pth``) whose card says so; by default the embedded weights.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or, for ONNX, ``openvino``.
        trust_weights: Open an ultralytics ``.pt`` file, which can run any code. Nothing else opens one: a card beside
            the file comes from where the file comes from, and says nothing about who made them.
        dtype: Precision of the computation, where the library leaves a choice.

    Raises:
        WeightsError: The file is absent, corrupt, of an unknown kind, or not the one that its card describes.
        MissingPartError: The part that runs it, or the GPU, is not there.
        UsageError: The device has an unknown name.
    """
    path = default_weights() if weights is None else Path(weights)
    if not path.is_file():
        raise WeightsError("there is no such weight file", where=path, mend="Check the path.")
    card, digest = read_card(path), digest_of(path)
    if card is not None and card.sha256 and card.sha256 != digest:
        raise WeightsError(
            f"the weights are not the ones that their card describes (sha256 {digest[:12]}…, card {card.sha256[:12]}…)",
            where=path,
            mend=f"Copy both again from their source, or remove {card_path(path).name}.",
        )
    if card is not None:
        card = card.model_copy(update={"sha256": digest})
    suffix, openvino = path.suffix.lower(), device.partition(":")[0] == "openvino"
    # Each library is imported only where it is needed: they take from a tenth of a second to several.
    if suffix == ".xml" or (suffix == ".onnx" and openvino):
        from flat_bug.segmenters.openvino import load_openvino  # noqa: PLC0415

        return load_openvino(path, card, digest, device, dtype)
    if suffix == ".onnx":
        from flat_bug.segmenters.onnx import load_onnx  # noqa: PLC0415

        return load_onnx(path, card, digest, device, dtype)
    if card is not None and card.kind == "maskrcnn" and suffix in STATES:
        from flat_bug.segmenters.torchvision import load_mask_rcnn  # noqa: PLC0415

        return load_mask_rcnn(path, card, device, dtype)
    if suffix == ".pt":
        from flat_bug.segmenters.ultralytics import load_checkpoint  # noqa: PLC0415

        return load_checkpoint(path, card, digest, device, trusted=trust_weights, dtype=dtype)
    raise _unknown(path)


def digest_of(weights: Path) -> str:
    """Return the SHA-256 of weights: of the file, and for an ``.xml`` file of OpenVINO of it and the ``.bin`` file.

    Raises:
        WeightsError: The second file is not there.
    """
    if weights.suffix.lower() != ".xml":
        return sha256_of(weights)
    numbers = weights.with_suffix(".bin")
    if not numbers.is_file():
        raise WeightsError("the .bin file of these weights is missing", where=numbers, mend="Copy it along.")
    digest = hashlib.sha256(weights.read_bytes())
    digest.update(numbers.read_bytes())
    return digest.hexdigest()


def _unknown(weights: Path) -> WeightsError:
    if weights.suffix.lower() in STATES:
        return WeightsError(
            "a file of the numbers of a network does not say which network it is",
            where=weights,
            mend=f'Beside it, put {card_path(weights).name} with "kind": "maskrcnn".',
        )
    return WeightsError(
        f"weights of the kind {weights.suffix!r} are unknown", where=weights, mend="Give .onnx, .pt, .pth or .xml."
    )


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
