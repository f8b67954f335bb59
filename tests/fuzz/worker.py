"""Try one reader on broken files for a while; its own process, since a library may crash.

``python -m tests.fuzz.worker TARGET SECONDS SEED FOLDER``. The file that is being read is always FOLDER/case.
"""

import resource
import sys
import time
import traceback
from pathlib import Path
from random import Random

from tests.fuzz.targets import TARGETS

MOST_MEMORY = 8 << 30


def main() -> None:
    """Print how many files were tried and how many could be read; keep those that lead to an error of others."""
    name, seconds, seed, folder = sys.argv[1], float(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    target, case = TARGETS[name], folder / "case"
    tried = read = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        case.write_bytes(target.make(Random(f"{name} {seed} {tried}")))
        try:
            read += target.attempt(case)
        except Exception:
            kept = folder / f"{name}-{seed}-{tried}"
            case.replace(kept)
            print(f"FOUND {kept}\n{traceback.format_exc()}", flush=True)
        tried += 1
    print(f"{name}: {tried} files, {read} of them readable", flush=True)


if __name__ == "__main__":
    main()
