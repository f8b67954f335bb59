"""What is said to those who use a name of flat-bug 1.x."""

import functools
import warnings
from collections.abc import Callable
from typing import ParamSpec, TypeVar

Given = ParamSpec("Given")
Made = TypeVar("Made")


def formerly(new: str) -> Callable[[Callable[Given, Made]], Callable[Given, Made]]:
    """Have a method of flat-bug 1.x name the new way when it is called."""

    def with_warning(method: Callable[Given, Made]) -> Callable[Given, Made]:
        @functools.wraps(method)
        def called(*args: Given.args, **named: Given.kwargs) -> Made:
            warn(f"{method.__qualname__} is of flat-bug 1.x; use {new}", DeprecationWarning)
            return method(*args, **named)

        return called

    return with_warning


def warn(text: str, kind: type[Warning]) -> None:
    """Warn the caller of the function that calls this."""
    warnings.warn(text, kind, stacklevel=3)


def warn_of_no_effect(values: dict[str, tuple[object, object]]) -> None:
    """Say which parameters, each with its value and its default, have been given and have no effect any more."""
    given = [name for name, (value, default) in values.items() if value != default]
    if given:
        warnings.warn(f"{', '.join(given)}: without effect since flat-bug 2", UserWarning, stacklevel=4)
