"""Several processes that predict, each with a network of its own on its share of the processors.

A process that dies costs its image a second try, and nothing else: another one takes its place.
"""

import logging
import os
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle, islice
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Literal, Self

from flat_bug.errors import FlatBugError, MissingPartError
from flat_bug.predict import Predictor
from flat_bug.prediction_run.inputs import InputImage
from flat_bug.prediction_run.one_image import Finished, Place, failed
from flat_bug.prediction_run.remembered import Remembered
from flat_bug.prediction_run.worker import HELD_BACK, STOP, Recipe, Tiles, main
from flat_bug.processors import free_memory, processors_for_children, share_cpus, usable_processors

log = logging.getLogger(__name__)

OnTiles = Callable[[int, int, int], None]
"""Is told the position of an image, how many of its tiles are done, and of how many."""
TRIES = 2
"""An image that has cost so many processes their lives is not tried again."""
SECONDS_TO_END = 10.0
PROCESSORS_EACH = 2
MEMORY_EACH = 2 * 10**9
"""Bytes that one process may need, beside a large image."""
CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE)


@dataclass(frozen=True)
class Crew:
    """Several processes that predict.

    Attributes:
        recipe: How each makes its predictor.
        devices: Where the network of each runs: as many processes as devices, of which several may be the same.
    """

    recipe: Recipe
    devices: Sequence[str]

    def predict(
        self,
        images: Sequence[InputImage],
        place: Place | None,
        memory: Mapping[str, Remembered],
        on_tiles: OnTiles = lambda *_: None,
    ) -> Iterator[tuple[int, Finished]]:
        """Yield the position of each image and what became of it, as they are finished.

        The largest files are begun first, so that no process is left alone with one at the end. Close the iterator
        when it is left early: its processes end then.

        Args:
            images: The images.
            place: Where results are written; nothing is written without it.
            memory: Name of each image → what is remembered of it.
            on_tiles: Told now and then how many tiles of an image are done.

        Raises:
            FlatBugError: The predictor cannot be made, or the output cannot be written; what was finished is kept.
        """
        todo = deque(sorted(range(len(images)), key=lambda position: -_bytes_of(images[position])))
        deaths: Counter[int] = Counter()
        workers: list[_Worker] = []
        has_begun = False
        try:
            workers += self._started(len(images), place)
            while todo or any(worker.position is not None for worker in workers):
                for worker in _who_speak(workers):
                    position = worker.position
                    said: Finished | Tiles | None
                    try:
                        said = worker.listen()
                    except _DeathError as death:
                        workers.remove(worker)
                        workers += self._successor(worker, death, is_last=not workers, place=place)
                        said = None if position is None else _after(death, images[position], position, deaths, todo)
                    if position is not None and isinstance(said, Tiles):
                        on_tiles(position, said.done, said.count)
                    elif position is not None and isinstance(said, Finished):
                        yield position, said
                # What is wrong with one of several devices is an error before anything is done.
                has_begun = has_begun or all(worker.is_ready for worker in workers)
                for worker in workers if has_begun else ():
                    if (
                        todo
                        and worker.is_ready
                        and worker.position is None
                        and not _must_wait(todo[0], deaths, workers)
                    ):
                        image = images[todo[0]]
                        worker.hand_over(todo.popleft(), image, memory.get(image.name))
        finally:
            _end(workers)

    def _started(self, most: int, place: Place | None) -> Iterator["_Worker"]:
        devices = self.devices[:most]
        for device, cpus in zip(devices, share_cpus(usable_processors(), len(devices)), strict=True):
            yield _Worker.start(self.recipe, device, cpus, place)

    def _successor(
        self, worker: "_Worker", death: "_DeathError", *, is_last: bool, place: Place | None
    ) -> list["_Worker"]:
        """Return the process that takes the place of another one; where none could be started, others go on."""
        if worker.is_ready:
            return [_Worker.start(self.recipe, worker.device, worker.cpus, place)]
        if is_last:
            raise MissingPartError(
                f"a process that predicts could not be started: {death}",
                where=f"device {worker.device}",
                mend="Use fewer processes (--jobs), or see what is printed above.",
            )
        return []


def predictor_of(recipe: Recipe, devices: Sequence[str]) -> Predictor | Crew:
    """Return what predicts: this process where there is one device, else a process for each.

    Raises:
        WeightsError: The weights cannot be used.
        MissingPartError: The part that runs them, or the GPU, is not there.
    """
    return recipe.predictor(devices[0]) if len(devices) == 1 else Crew(recipe, devices)


def automatic_jobs() -> int:
    """Return how many processes this machine has processors and memory for."""
    memory = free_memory()
    by_memory = max(1, memory // MEMORY_EACH) if memory is not None else len(usable_processors())
    return max(1, min(len(usable_processors()) // PROCESSORS_EACH, by_memory))


def devices_of_jobs(devices: Sequence[str], jobs: int | Literal["auto"] | None) -> list[str]:
    """Return where the network of each process runs: on the devices in turn.

    Args:
        devices: Those to use.
        jobs: How many processes; by default one for each device. ``auto``: as many as the machine has processors and
            memory for, where they do not share a GPU.
    """
    if jobs == "auto":
        on_gpus = len(devices) > 1 or devices[0].startswith("cuda")
        jobs = len(devices) if on_gpus else automatic_jobs()
    return list(islice(cycle(devices), jobs or len(devices)))


class _DeathError(Exception):
    """A process has ended, and nobody has asked it to; says how."""


@dataclass(eq=False)
class _Worker:
    """A process that predicts.

    Attributes:
        device: Where its network runs.
        cpus: Its share of the processors.
        process: The process.
        pipe: For images to it, and messages from it.
        is_ready: Whether it has made its predictor.
        position: The image that it is at.
    """

    device: str
    cpus: Sequence[int]
    process: SpawnProcess
    pipe: Connection
    is_ready: bool = False
    position: int | None = None

    @classmethod
    def start(cls, recipe: Recipe, device: str, cpus: Sequence[int], place: Place | None) -> Self:
        """Start a process; it says when it is ready."""
        context = get_context("spawn")  # a fork would have the locks, but not the threads, of our libraries
        ours, theirs = context.Pipe()
        process = context.Process(target=main, args=(theirs, recipe, device, place), daemon=True)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)
        try:
            with processors_for_children(cpus):
                process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()  # or its end would not be noticed here
        return cls(device, cpus, process, ours)

    def hand_over(self, position: int, image: InputImage, remembered: Remembered | None) -> None:
        """Have it predict an image."""
        self.position = position
        with suppress(BrokenPipeError, ConnectionResetError):  # it has just died, which is heard next
            self.pipe.send((image, remembered))

    def listen(self) -> Finished | Tiles | None:
        """Return what became of its image or how far it is, or nothing when it says that it is ready.

        Raises:
            _DeathError: It has died.
            FlatBugError: It cannot go on.
        """
        try:
            message = self.pipe.recv()
        except (EOFError, OSError) as error:
            self.pipe.close()
            self.process.join()
            raise _DeathError(_how_it_ended(self.process.exitcode or 0)) from error
        if isinstance(message, FlatBugError):
            raise message
        if isinstance(message, Tiles):
            return message
        self.is_ready, self.position = True, None
        return message if isinstance(message, Finished) else None


def _who_speak(workers: Sequence[_Worker]) -> list[_Worker]:
    """Return the processes that say something or have died, once there are any."""
    spoken = wait([worker.pipe for worker in workers])
    return [worker for worker in workers if worker.pipe in spoken]


def _after(
    death: _DeathError, image: InputImage, position: int, deaths: "Counter[int]", todo: "deque[int]"
) -> Finished | None:
    """Have an image tried again whose process has died, behind all others, or return that it failed."""
    deaths[position] += 1
    log.info("%s: %s", image.file_name, death)
    if deaths[position] < TRIES:
        todo.append(position)
        return None
    return failed(image, f"{death}, {TRIES} times")


def _must_wait(position: int, deaths: "Counter[int]", workers: Sequence[_Worker]) -> bool:
    """Return whether an image must wait for others: one that has cost a process its life gets all the memory."""
    return deaths[position] > 0 and any(worker.position is not None for worker in workers)


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"its process ended with exit code {code}"
    by = signal.Signals(-code)
    return f"its process {'crashed' if by in CRASHES else 'was killed, maybe for want of memory'} ({by.name})"


def _end(workers: Sequence[_Worker]) -> None:
    """End the processes: politely, so that they leave no temporary files, then by force; at once after Ctrl-C."""
    try:
        for worker in workers:
            is_busy = worker.position is not None or not worker.is_ready
            if is_busy and worker.process.exitcode is None and worker.process.pid is not None:
                os.kill(worker.process.pid, STOP)
            worker.pipe.close()
        deadline = time.monotonic() + SECONDS_TO_END
        for worker in workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
    finally:
        for worker in workers:
            if worker.process.exitcode is None:
                worker.process.kill()
            worker.process.join()


def _bytes_of(image: InputImage) -> int:
    if image.part.frame_index is not None:
        return 0  # a frame is small, and those of a video are best decoded in their order
    try:
        return image.path.stat().st_size
    except OSError:
        return 0  # what is wrong with it is found out when it is opened
