"""Standard streams that nothing can go wrong with after hours of work: all are open, and take any name of a file."""

import io
import os
import sys


def make_usable() -> None:
    """Open streams that are closed to nothing, and have the others write escapes for what they cannot encode.

    A program that is started without a stream (``fb … >&-``, by some schedulers) would otherwise give its number to the
    next file that it opens, and have no ``sys.stdout``.
    """
    for name, mode in {"stdin": "r", "stdout": "w", "stderr": "w"}.items():
        if getattr(sys, name) is None:
            # The lowest number that is free, which is that of the stream.
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # as standard error does by itself
