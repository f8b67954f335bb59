"""One of several processes that predict: it is handed images one by one, and says what became of each.

Nobody but the process that started it asks it to stop. A terminal or a scheduler signals all processes at once, and one
that tidies up is enough.
"""

import os
import signal
import threading
import time
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import FrameType

from flat_bug.config import PredictSettings
from flat_bug.errors import FlatBugError
from flat_bug.interruption import interrupt, stand_down
from flat_bug.predict import Predictor
from flat_bug.prediction_run.one_image import Finished, Place, attempt, work_of
from flat_bug.progress import Report

ASKED_BY_OTHERS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Signals that a terminal or a scheduler sends to all processes."""
STOP = signal.SIGUSR2
"""By which the process that started this one has it abandon its image."""
HELD_BACK = (*ASKED_BY_OTHERS, STOP)
"""Held back by who starts a worker, until it is ready to deal with them."""


@dataclass(frozen=True)
class Recipe:
    """How to make a predictor, for a process of its own: a network cannot be sent to one.

    Attributes:
        model: A weight file; by default the weights that come with flat-bug.
        settings: How an image is turned into instances.
        trust_weights: Open a ``.pt`` file, which can run any code.
    """

    model: Path | None = None
    settings: PredictSettings | None = None
    trust_weights: bool = False

    def predictor(self, device: str) -> Predictor:
        """Load the model.

        Raises:
            WeightsError: The weights cannot be used.
            MissingPartError: The part that runs them, or the GPU, is not there.
        """
        return Predictor(self.model, self.settings, device, trust_weights=self.trust_weights)


@dataclass(frozen=True)
class Tiles:
    """How far an image is.

    Attributes:
        done: How many of its tiles are done.
        count: Of how many.
    """

    done: int
    count: int


Message = None | Tiles | Finished | FlatBugError
"""What a worker says: that it is ready, how far an image is, what became of it, or why it cannot go on."""
SECONDS_BETWEEN_TILES = 0.5


def main(pipe: Connection, recipe: Recipe, device: str, place: Place | None) -> None:
    """Predict the images that come through a pipe, until it is closed.

    Args:
        pipe: For images, each with what is remembered of it, in this direction, and for messages in the other one.
        recipe: How to make the predictor.
        device: Where its network runs.
        place: Where results are written; nothing is written without it.
    """
    for number in ASKED_BY_OTHERS:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(STOP, _stop)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_BACK)
        _work_off(pipe, recipe, device, place)
    except (KeyboardInterrupt, EOFError, OSError):
        pass  # there is nobody to tell
    finally:
        signal.signal(STOP, signal.SIG_IGN)
        stand_down()


def _work_off(pipe: Connection, recipe: Recipe, device: str, place: Place | None) -> None:
    try:
        work = work_of(recipe.predictor(device), place)
        pipe.send(None)
        while True:
            image, remembered = pipe.recv()
            pipe.send(attempt(image, work, _teller(pipe), remembered))
    except FlatBugError as error:
        pipe.send(error)


def _teller(pipe: Connection) -> Report:
    """Return what tells now and then how far an image is."""
    told_at = time.monotonic()

    def tell(done: int, count: int) -> None:
        nonlocal told_at
        now = time.monotonic()
        if now - told_at >= SECONDS_BETWEEN_TILES:
            told_at = now
            pipe.send(Tiles(done, count))

    return tell


def _stop(number: int, frame: FrameType | None) -> None:
    signal.signal(STOP, signal.SIG_IGN)  # tidying up is not interrupted
    interrupt(KeyboardInterrupt, frame)


def _end_with_parent() -> None:
    """End this process when the one that started it ends, even by ``kill -9``."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
