"""The main job on data that the program makes itself: synthesize, prepare, compare two models, report.

Usage: ``python scripts/demo.py FOLDER``. Each command is printed before it runs, so that it can be tried by hand.
"""

import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from flat_bug.segmenters.base import ModelCard, card_path
from flat_bug.segmenters.load import default_weights

FB = Path(sys.executable).with_name("fb")
DATASETS = ("light-sheet", "petri-dish", "scanner-tray", "sticky_card")
"""As many as fit into the table of a terminal of 80 columns."""


def make_weaker_model(folder: Path) -> Path:
    """Copy the default model with a card that halves its tile twice: it then sees less around each animal."""
    source = default_weights()
    card = ModelCard.model_validate_json(card_path(source).read_text(encoding="utf-8"))
    side = max(card.stride * 4, card.tile // 4 // card.stride * card.stride)
    weaker = card.model_copy(update={"name": f"tile_{side}", "tile": side, "largest_object": side // 2, "scores": ()})
    folder.mkdir(parents=True)
    weights = folder / f"{weaker.name}.onnx"
    shutil.copyfile(source, weights)
    card_path(weights).write_text(weaker.model_dump_json(indent=1), encoding="utf-8")
    return weights


def fb(*words: str | Path) -> None:
    """Print and run one command; leave with its exit code if it fails."""
    command = [str(word) for word in words]
    print(f"\n$ fb {shlex.join(command)}", flush=True)
    code = subprocess.run([str(FB), *command], check=False).returncode
    if code:
        sys.exit(code)


def main(folder: Path) -> None:
    """Run the demonstration in ``folder``, which must not exist yet."""
    if folder.exists():
        sys.exit(f"{folder} exists already: name another folder, or remove it.")
    start = time.monotonic()
    weaker = make_weaker_model(folder / "models")
    datasets = (word for name in DATASETS for word in ("-d", name))
    fb("data", "synth", "-o", folder / "pre-pro", "--images", "8", "--size", "960", "720", "--seed", "1", *datasets)
    fb("data", "prepare", "-i", folder / "pre-pro", "-o", folder / "fb_yolo", "-p", "0.6")
    val = folder / "fb_yolo" / "insects"
    fb(
        *("run", "compare-models"),
        *("-i", val / "images" / "val", "-g", val / "labels" / "val" / "instances_default.json"),
        *("--weights", "default", "--weights", weaker, "-o", folder / "run"),
    )
    print(f"\nDone in {time.monotonic() - start:.0f} s. Open {(folder / 'run' / 'report' / 'report.html').resolve()}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
