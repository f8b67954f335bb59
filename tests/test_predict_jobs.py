"""fb predict with several processes: the same results, whatever befalls one of them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pytest
from PIL import Image
from tests.spots import fb, spots

from flat_bug.config import PredictSettings
from flat_bug.errors import MissingPartError, WeightsError
from flat_bug.files import sha256_of
from flat_bug.prediction_run import Crew, Recipe, devices_of_jobs, find_images, predict_images
from flat_bug.processors import free_memory, processors_for_children, usable_processors

MANY = 10
SLOW = "2.5"
"""Images are scaled up so far that one takes long enough to be met half-way."""


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Return images of several sizes, and among them two that are none."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(MANY):
        width = 70 + 20 * (number % 4)
        Image.fromarray(spots(width, 64, [(20 + number, 30)])).save(folder / f'{number:03d} it\'s "one"\n.png')
    (folder / "005 truncated.png").write_bytes((folder / '003 it\'s "one"\n.png').read_bytes()[:60])
    (folder / "007 text.png").write_text("no image")
    return folder


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out"


def contents_of(folder: Path) -> dict[str, str]:
    """Return name → digest of all results but the summary, whose times are never the same."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in {"summary.csv", ".done.json"})
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in files}


def rows_of(output: Path) -> list[dict[str, Any]]:
    return pl.read_csv(output / "summary.csv").drop("seconds").to_dicts()


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--no-metadata", "--long-format"]])
def test_several_processes_leave_what_one_leaves(
    images: Path, output: Path, spots_network: Path, options: list[str]
) -> None:
    other = output.with_name("other")
    words: list[str | Path] = ["predict", "-i", images, "-w", spots_network, *options]
    assert fb(*words, "-o", output, "--jobs", "2") == 1  # two images are none
    assert fb(*words, "-o", other) == 1
    assert contents_of(output) == contents_of(other)
    assert rows_of(output) == rows_of(other)
    assert [row["status"] for row in rows_of(output)].count("failed") == 2


@pytest.mark.slow
def test_one_process_for_each_device(
    images: Path, spots_network: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fb("predict", "-i", images, "-w", spots_network, "-o", output, "-n", "4", "--device", "cpu,cpu") == 0
    assert fb("predict", "-i", images, "-w", spots_network, "-o", output, "-n", "4", "-g", "cpu, warp:9") == 2
    assert "unknown device 'warp:9'" in capsys.readouterr().err


def test_where_each_process_has_its_network() -> None:
    assert devices_of_jobs(["auto"], None) == ["auto"]
    assert devices_of_jobs(["cpu"], 3) == ["cpu"] * 3
    assert devices_of_jobs(["cuda:0", "cuda:1"], None) == ["cuda:0", "cuda:1"]
    assert devices_of_jobs(["cuda:0", "cuda:1"], 3) == ["cuda:0", "cuda:1", "cuda:0"]
    assert devices_of_jobs(["cuda:0", "cuda:1"], "auto") == ["cuda:0", "cuda:1"]
    assert 1 <= len(devices_of_jobs(["cpu"], "auto")) <= len(usable_processors())


@pytest.mark.slow
def test_weights_that_are_none_are_one_error(images: Path, output: Path, tmp_path: Path) -> None:
    weights = tmp_path / "none.onnx"
    weights.write_text("no network")
    with pytest.raises(WeightsError):
        predict_images(find_images([images]), Crew(Recipe(weights), ["cpu"] * 2), output)
    assert not list(output.rglob("*"))


class Running:
    """``fb predict`` in a process of its own that has begun."""

    def __init__(self, images: Path, output: Path, weights: Path, *words: str) -> None:
        self.output = output
        code = "from flat_bug.cli.main import main; main()"
        words = ("predict", "-i", str(images), "-o", str(output), "-w", str(weights), "-v", *words)
        self.process = subprocess.Popen([sys.executable, "-c", code, *words], stderr=subprocess.PIPE, text=True)
        self.me = psutil.Process(self.process.pid)

    def workers(self) -> list[psutil.Process]:
        return [child for child in self.me.children() if _is_worker(child)]

    def done(self) -> int:
        return len(list(self.output.rglob("metadata_*.json")))

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 120
        while not condition():
            assert self.process.poll() is None, self.process.stderr and self.process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def ended(self) -> tuple[int, str]:
        """Return the exit code and what was said."""
        _, errors = self.process.communicate(timeout=120)
        return self.process.returncode, errors


def _is_worker(process: psutil.Process) -> bool:
    try:
        return any("spawn_main" in word for word in process.cmdline())
    except psutil.Error:  # it has just ended
        return False


@pytest.fixture
def run(images: Path, output: Path, spots_network: Path) -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def start(*words: str) -> Running:
        started.append(Running(images, output, spots_network, *words))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.process.kill()
            each.process.communicate()


@pytest.mark.slow
def test_a_process_that_is_killed_costs_nothing_but_time(run: Callable[..., Running], output: Path) -> None:
    running = run("--jobs", "2", "-s", SLOW)
    running.wait_for(lambda: running.done() > 0)
    victim = running.workers()[0]
    victim.kill()
    running.wait_for(lambda: victim.pid not in [child.pid for child in running.workers()])
    code, errors = running.ended()
    assert code == 1
    assert "was killed, maybe for want of memory (SIGKILL)" in errors
    assert {row["image"] for row in rows_of(output) if row["status"] == "failed"} == {
        "005 truncated.png",
        "007 text.png",
    }


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_tidies_up_and_the_run_goes_on_later(
    run: Callable[..., Running], images: Path, output: Path, spots_network: Path, stop: signal.Signals
) -> None:
    running = run("--jobs", "2", "-s", SLOW)
    running.wait_for(lambda: running.done() > 0)
    workers = running.workers()
    assert len(workers) == 2
    # A terminal signals all of them at once.
    for each in (running.me, *workers):
        each.send_signal(stop)
    code, errors = running.ended()
    assert code == 130
    assert f"of {MANY + 2} images were finished" in errors
    assert "run the same command again" in errors
    assert "Traceback" not in errors
    assert not any(worker.is_running() for worker in workers)
    assert not list(output.rglob(".tmp-*"))
    assert not (output / "summary.csv").exists()
    done = running.done()
    assert 0 < done < MANY
    assert fb("predict", "-i", images, "-o", output, "-w", spots_network, "-s", SLOW, "--jobs", "2") == 1
    assert [row["status"] for row in rows_of(output)].count("skipped") == done


@pytest.mark.slow
@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGINT])
def test_at_once_means_that_no_process_is_left(run: Callable[..., Running], by: signal.Signals) -> None:
    """By ``kill -9``, and by a second Ctrl-C, nothing tidies up, and still all processes end."""
    running = run("--jobs", "2", "-s", SLOW)
    running.wait_for(lambda: running.done() > 0)
    workers = running.workers()
    for worker in workers:
        worker.suspend()  # so that they cannot end politely
    running.me.send_signal(signal.SIGINT)
    time.sleep(0.5)
    running.me.send_signal(by)
    for worker in workers:
        worker.resume()
    code, _ = running.ended()
    assert code == (130 if by == signal.SIGINT else -signal.SIGKILL)
    gone, alive = psutil.wait_procs(workers, timeout=30)
    assert len(gone) == 2
    assert not alive


IN_WORKERS = "import os, sys\nif 'spawn_main' in ' '.join(sys.orig_argv):\n"
POISON = '''
import os, signal
import flat_bug.prediction_run.worker as worker

attempt = worker.attempt

def poisoned(image, *others):
    """Die of one image, as in a bug of a library."""
    if "004" in image.file_name:
        os.kill(os.getpid(), signal.SIGSEGV)
    return attempt(image, *others)

worker.attempt = poisoned
'''


@pytest.mark.slow
def test_an_image_that_kills_its_process_is_tried_twice_and_costs_its_own_row(
    images: Path, output: Path, spots_network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "poison.py").write_text(POISON)
    (tmp_path / "sitecustomize.py").write_text(IN_WORKERS + "    import poison\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    run = predict_images(find_images([images]), Crew(Recipe(spots_network), ["cpu"] * 2), output)
    reasons = {row.image: row.reason for row in run.failed}
    assert reasons.keys() == {'004 it\'s "one"\n.png', "005 truncated.png", "007 text.png"}
    assert reasons['004 it\'s "one"\n.png'] == "its process crashed (SIGSEGV), 2 times"


@pytest.mark.slow
def test_processes_that_cannot_be_started_are_one_error(
    images: Path, output: Path, spots_network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(IN_WORKERS + "    os._exit(7)\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    crew = Crew(Recipe(spots_network, PredictSettings()), ["cpu"] * 2)
    with pytest.raises(MissingPartError, match="could not be started: its process ended with exit code 7"):
        predict_images(find_images([images]), crew, output)


def test_free_memory_is_what_the_system_and_slurm_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:       16000000 kB\nMemAvailable:    8000000 kB\nHugePages_Total:       0\n")
    monkeypatch.delenv("SLURM_MEM_PER_NODE", raising=False)
    assert free_memory(meminfo) == 8_000_000 * 1024
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "1024")
    assert free_memory(meminfo) == 2**30
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "0")  # all of the node
    assert free_memory(meminfo) == 8_000_000 * 1024
    meminfo.write_text("nothing known")
    assert free_memory(meminfo) is None
    assert free_memory(tmp_path / "absent") is None


def test_processes_get_disjoint_shares_of_the_processors() -> None:
    before = usable_processors()
    ask = "from flat_bug.processors import usable_processors; print(usable_processors())"
    with processors_for_children(before[:1]):
        said = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True).stdout
    assert said.strip() == str(before[:1] if hasattr(os, "sched_setaffinity") else before)
    assert usable_processors() == before
