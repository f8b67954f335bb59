"""Time to an environment on a node, beside the guide's virtualenv and pip, in one run.

Usage: ``python benchmarks/node_environment.py DIST --rounds 3 --target DIR [--cold]``. ``DIST`` is what
``fb env build`` has made; ``--target`` is a folder on the disk that stands for the node's (``/dev/shm/x`` for one in
memory). Each round makes the environment once by each way, in turn, and ends when its interpreter has imported the
heavy parts. ``--cold`` drops the page cache before each, which needs root.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import flat_bug

SCRIPT = Path(flat_bug.__file__).parent / "cluster" / "node_environment.py"
HEAVY = "import flat_bug, numpy, onnxruntime, pyvips, polars"
GUIDE = "guide"
WAYS = (GUIDE, "squashfs", "tar", "uv", "pip")


def by_guide(dist: Path, target: Path, variables: dict[str, str]) -> str:
    """Follow the guide: virtualenv, then pip from the wheels."""
    env = target / "env"
    virtualenv = shutil.which("virtualenv") or sys.exit("virtualenv is needed")
    subprocess.run([virtualenv, "--no-download", "-q", "-p", sys.executable, str(env)], check=True, env=variables)
    wheel = next(dist.glob("flat_bug-*.whl"))
    pip = [str(env / "bin" / "pip"), "install", "-q", "--no-index", f"--find-links={dist}", str(wheel)]
    subprocess.run(pip, check=True, env=variables)
    return str(env / "bin" / "python")


def by_ours(method: str, dist: Path, target: Path, variables: dict[str, str]) -> str:
    """Run the script of the node."""
    settings = target / "settings.json"
    settings.write_text(json.dumps({"dist": str(dist), "python": "", "method": method, "persistent": False}))
    command = [sys.executable, "-I", str(SCRIPT), str(settings), str(target)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=variables)
    return done.stdout.strip()


def seconds(way: str, dist: Path, target: Path, *, cold: bool) -> float:
    """Return the time from nothing to the first import of the heavy parts."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    # A job compiles what it imports; and no tool may know the wheels from the round before.
    unwanted = ("PYTHON", "PIP_", "UV_")
    variables = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    variables["PIP_CONFIG_FILE"] = os.devnull
    os.sync()
    if cold:
        Path("/proc/sys/vm/drop_caches").write_text("3")
    start = time.perf_counter()
    python = by_guide(dist, target, variables) if way == GUIDE else by_ours(way, dist, target, variables)
    subprocess.run([python, "-c", HEAVY], check=True, env=variables, cwd="/")
    took = time.perf_counter() - start
    subprocess.run([sys.executable, "-I", str(SCRIPT), "--clean", str(target)], check=True)
    shutil.rmtree(target)
    return took


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dist", type=Path)
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cold", action="store_true")
    options = parser.parse_args()
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(options.rounds):
        for way in WAYS:
            times[way].append(seconds(way, options.dist.resolve(), options.target, cold=options.cold))
            print(f"{way}: {times[way][-1]:.1f} s", file=sys.stderr, flush=True)
    guide = statistics.median(times[GUIDE])
    for way, took in times.items():
        middle = statistics.median(took)
        print(f"{way:10} {middle:6.1f} s   {guide / middle:5.1f} x   {' '.join(f'{t:.1f}' for t in took)}")
