"""Where and how the images are worked through."""

from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import Group, Parameter
from cyclopts.types import PositiveInt


@Parameter(name="*", group=Group("Run", sort_key=4))
@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How many images at a time.

    Attributes:
        jobs: Processes, each with a network of its own on its share of the processors; one by default, or one for each
            device. auto: as many as there are processors and memory for.
    """

    jobs: Annotated[Literal["auto"] | PositiveInt | None, Parameter(["--jobs", "-j"])] = None
