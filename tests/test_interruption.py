"""An interruption is not lost in a callback from C, which would swallow it."""

import signal
import time
from collections.abc import Iterator

import pytest
import pyvips

from flat_bug.cli.interrupts import tidied_up
from flat_bug.interruption import SECONDS_LATER, interrupt, stand_down


def _marshal_image_progress(seconds: float) -> None:
    """Do what libvips calls for each strip of a picture: whatever is raised in here is lost."""
    try:
        signal.raise_signal(signal.SIGUSR2)
        time.sleep(seconds)
    except KeyboardInterrupt:
        pytest.fail("it was raised where it would be lost")


@pytest.fixture(autouse=True)
def _handler() -> Iterator[None]:
    before = signal.signal(signal.SIGUSR2, lambda _, frame: interrupt(KeyboardInterrupt, frame))
    yield
    signal.signal(signal.SIGUSR2, before)


def test_elsewhere_it_comes_at_once() -> None:
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGUSR2)


def test_in_a_callback_it_comes_behind_it() -> None:
    def work() -> None:
        _marshal_image_progress(5 * SECONDS_LATER)
        time.sleep(60)

    with pytest.raises(KeyboardInterrupt):
        work()


def test_it_is_given_up_where_nothing_is_left_to_interrupt() -> None:
    _marshal_image_progress(0)
    stand_down()
    time.sleep(5 * SECONDS_LATER)


def test_the_callback_of_libvips_has_this_name() -> None:
    assert callable(pyvips.gobject._marshal_image_progress)


@pytest.mark.parametrize("ignored", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_is_ignored_stays_so(ignored: signal.Signals) -> None:
    """A shell has its jobs in the background ignore Ctrl-C, which is meant for another one."""
    other = signal.SIGTERM if ignored is signal.SIGINT else signal.SIGINT
    before = signal.signal(ignored, signal.SIG_IGN)
    try:
        with tidied_up():
            signal.raise_signal(ignored)
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(other)
            signal.raise_signal(ignored)
        assert signal.getsignal(ignored) is signal.SIG_IGN
    finally:
        signal.signal(ignored, before)
