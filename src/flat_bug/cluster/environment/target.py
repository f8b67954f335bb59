"""The machine that wheels are chosen for: the node's Python, processor and C library, not those of the login node."""

from dataclasses import dataclass
from functools import cached_property
from itertools import chain

from packaging.tags import Tag, compatible_tags, cpython_tags

from flat_bug.cluster.profile import ClusterProfile
from flat_bug.errors import ConfigError

MACHINES = ("x86_64", "aarch64")
"""Processors that uv resolves for and that wheels of our parts exist for."""
OLDEST_GLIBC = 17
UV_GLIBC = (40, 39, 38, 37, 36, 35, 34, 33, 32, 31, 28, 17)
"""Minor versions of glibc for which uv has a name."""
OLD_NAMES = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}


@dataclass(frozen=True)
class Target:
    """What wheels must run on.

    Attributes:
        python_version: Such as ``3.11``.
        machine: Processor, as ``uname -m`` says.
        glibc: Version of the C library, such as ``2.28``.
    """

    python_version: str
    machine: str
    glibc: str

    @classmethod
    def of(cls, profile: ClusterProfile) -> "Target":
        """Return the target of a cluster's profile.

        Raises:
            ConfigError: There are no wheels for such nodes.
        """
        target = cls(profile.python_version, profile.machine, profile.glibc)
        if target.machine not in MACHINES:
            raise ConfigError(
                f"there are no wheels for the processor {target.machine!r}",
                where=f"profile {profile.name}, machine",
                mend=f"Known: {', '.join(MACHINES)}.",
            )
        if target.glibc_minor < OLDEST_GLIBC:
            raise ConfigError(
                f"there are no wheels for glibc {target.glibc}",
                where=f"profile {profile.name}, glibc",
                mend=f"Ask `ldd --version` on a node; wheels need 2.{OLDEST_GLIBC} or newer.",
            )
        return target

    def __str__(self) -> str:
        return f"Python {self.python_version}, {self.machine}, glibc {self.glibc}"

    @property
    def glibc_minor(self) -> int:
        """The second number of the version of glibc; the first has been 2 since 1997."""
        return int(self.glibc.split(".")[1])

    @property
    def uv_platform(self) -> str:
        """The newest platform that uv knows and that is not newer than the nodes."""
        minor = next(known for known in UV_GLIBC if known <= self.glibc_minor)
        return f"{self.machine}-manylinux_2_{minor}"

    @property
    def platforms(self) -> list[str]:
        """The platforms of wheels that run there, best first."""
        names = []
        for minor in range(self.glibc_minor, 4, -1):
            names.append(f"manylinux_2_{minor}_{self.machine}")
            if minor in OLD_NAMES:
                names.append(f"{OLD_NAMES[minor]}_{self.machine}")
        # What a cluster has built for itself.
        return [*names, f"linux_{self.machine}"]

    @cached_property
    def ranks(self) -> dict[Tag, int]:
        """Every tag of a wheel that runs there → its place, best first."""
        version = tuple(int(part) for part in self.python_version.split("."))
        native = cpython_tags(version, platforms=self.platforms)
        others = compatible_tags(version, f"cp{version[0]}{version[1]}", self.platforms)
        return {tag: rank for rank, tag in reversed(list(enumerate(chain(native, others))))}

    def rank(self, tags: frozenset[Tag]) -> int | None:
        """Return how well a wheel fits, 0 best; nothing when it does not run there."""
        fitting = [self.ranks[tag] for tag in tags if tag in self.ranks]
        return min(fitting, default=None)
