"""Try all readers in turn: ``python -m tests.fuzz --minutes 60``, or ``make fuzz MINUTES=60``."""

import argparse
import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

from tests.fuzz.targets import TARGETS

TURN = 60.0
"""Seconds for which one reader is tried before the next one's turn."""
LONGEST = 60.0
"""Seconds that one file may take."""


def main() -> int:
    """Return 1 if anything was found, and keep the files that lead to it."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--folder", type=Path, default=Path("fuzz"), help="where files are kept that lead to a crash")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--only", choices=TARGETS, help="try one reader only")
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    names = [chosen.only] if chosen.only else list(TARGETS)
    end, found = time.monotonic() + 60 * chosen.minutes, 0
    for turn, name in enumerate(itertools.cycle(names)):
        left = end - time.monotonic()
        if left <= 0:
            break
        found += not _take_turn(name, min(TURN, left), f"{chosen.seed}.{turn}", chosen.folder)
    print(f"{found} turns found something; the files are in {chosen.folder}" if found else "nothing was found")
    return 1 if found else 0


def _take_turn(name: str, seconds: float, seed: str, folder: Path) -> bool:
    """Return whether one reader withstood broken files for some seconds."""
    words = [sys.executable, "-X", "faulthandler", "-m", "tests.fuzz.worker", name, str(seconds), seed, str(folder)]
    environment = os.environ | {"TMPDIR": str(folder)}
    # What libraries print by themselves is no finding, and a crash is told by the exit code.
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as worker:
        try:
            said, complaints = worker.communicate(timeout=seconds + LONGEST)
            died = worker.returncode != 0
        except subprocess.TimeoutExpired:
            worker.kill()
            said, complaints = worker.communicate()
            died = True
    print(said, end="", flush=True)
    if died:
        kept = folder / f"{name}-{seed}-died"
        (folder / "case").replace(kept)
        print(f"FOUND {kept}: exit code {worker.returncode}\n{complaints[-2000:]}", flush=True)
    return not died and "FOUND" not in said


if __name__ == "__main__":
    sys.exit(main())
