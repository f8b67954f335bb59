"""Time ``fb data pull`` against s5cmd on the same objects of one SeaweedFS, in turn.

Usage::

    python benchmarks/pull_s3.py --rounds 5 [--output FOLDER]

Both programs and the server are those of the extra ``dev``, beside this Python. The order changes every round.

Prints, and writes to ``FOLDER/pull_s3.json`` where asked, a row per load: medians of wall seconds of the whole process,
and s5cmd's over ours, the median over rounds.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.s3_servers import KEY_ID, SECRET, Server, seaweedfs  # noqa: E402 - the tests' server, from this checkout

BIN = Path(sys.executable).parent
BUCKET = "benchmark"
LOADS = {"small": (2000, 100_000), "large": (20, 50_000_000)}
"""Name → number of objects and bytes of each: images cut small, and archives."""


def fill(server: Server) -> None:
    """Write the objects of all loads."""
    server.put(BUCKET, {})
    for name, (count, size) in LOADS.items():
        # The same random bytes each time but for the number, so that no two objects are equal.
        content = os.urandom(size - 8)

        def put(number: int, name: str = name, content: bytes = content) -> None:
            body = number.to_bytes(8, "big") + content
            server.client.put_object(Bucket=BUCKET, Key=f"{name}/{number % 7}/{number}.jpg", Body=body)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(put, range(count)))


def commands(server: Server, load: str, folder: Path) -> dict[str, list[str]]:
    """Return the command line of each program."""
    source = f"s3://{BUCKET}/{load}/*"
    return {
        "ours": [str(BIN / "fb"), "data", "pull", source, str(folder / "ours"), "--endpoint-url", server.endpoint],
        "s5cmd": [str(BIN / "s5cmd"), "--endpoint-url", server.endpoint, "sync", source, f"{folder / 's5cmd'}/"],
    }


def timed(command: list[str]) -> float:
    """Return the seconds that a command takes.

    Raises:
        SystemExit: It failed.
    """
    keys = {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1"}
    start = time.perf_counter()
    done = subprocess.run(command, env={**os.environ, **keys}, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"{command[0]} ended with {done.returncode}: {done.stderr[-2000:]}")
    return seconds


def compare(load: str, runs: dict[str, list[str]], rounds: int, before: Callable[[], None]) -> dict[str, Any]:
    """Run both programs in turn and return a row."""
    seconds: dict[str, list[float]] = {who: [] for who in runs}
    for number in range(rounds):
        for who in sorted(runs, reverse=bool(number % 2)):
            before()
            # What the last program has left to be written to the disk is not this one's work.
            os.sync()
            seconds[who].append(timed(runs[who]))
    pairs = zip(seconds["s5cmd"], seconds["ours"], strict=True)
    return {
        "load": load,
        "rounds": rounds,
        **{f"{who}_seconds": statistics.median(each) for who, each in seconds.items()},
        "times_faster": statistics.median(theirs / ours for theirs, ours in pairs),
    }


def main() -> None:
    """Compare on every load, the first time and when there is nothing to do, and print the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, help="folder for the figures as JSON")
    options = parser.parse_args()
    rows = []
    with seaweedfs() as server, tempfile.TemporaryDirectory(prefix="pull-") as name:
        folder = Path(name)
        fill(server)

        def empty() -> None:
            for each in folder.iterdir():
                shutil.rmtree(each)

        for load in LOADS:
            runs = commands(server, load, folder)
            rows.append(compare(load, runs, options.rounds, empty))
            empty()
            for command in runs.values():
                timed(command)
            # These take so little that noise needs more rounds.
            rows.append(compare(f"{load}, nothing to do", runs, 3 * options.rounds, lambda: None))
            empty()
    for row in rows:
        print(json.dumps(row))
    if options.output is not None:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "pull_s3.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
