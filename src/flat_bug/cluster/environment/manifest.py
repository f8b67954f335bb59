"""``environment.json``: what ``fb env build`` has made, with the digest of every file."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flat_bug.cluster.environment.target import Target
from flat_bug.errors import MissingPartError
from flat_bug.files import sha256_of, write_json

MANIFEST_NAME = "environment.json"
LOCK_NAME = "requirements.lock"


# What a build removes is named by its manifest, so no name may lead out of the folder.
FileName = Annotated[str, Field(pattern=r"^[^/\x00]*[^/\x00.][^/\x00]*$")]


class _Entry(BaseModel):
    # A newer flat-bug may know more about a file; an older one needs only what it knows.
    model_config = ConfigDict(frozen=True, extra="ignore")


class FileEntry(_Entry):
    """A file of the environment; ``files`` is how many it unpacks to."""

    file: FileName
    sha256: str
    bytes: int
    files: int = 0

    @classmethod
    def of(cls, path: Path, *, files: int = 0) -> "FileEntry":
        """Return the entry of a file that is there."""
        return cls(file=path.name, sha256=sha256_of(path), bytes=path.stat().st_size, files=files)


class WheelEntry(_Entry):
    """A locked wheel; ``folder`` is where the cluster provides it, or nothing when it lies in the wheelhouse."""

    name: str
    version: str
    file: FileName
    sha256: str
    bytes: int
    folder: str | None = None

    def path(self, dist: Path) -> Path:
        """Return where the wheel lies."""
        return Path(self.folder or dist) / self.file


class Size(_Entry):
    """What an installed environment takes."""

    bytes: int
    files: int


class Manifest(_Entry):
    """What an environment holds and what it was made for."""

    version: str = Field(description="Of flat-bug.")
    python_version: str
    machine: str
    glibc: str
    extras: tuple[str, ...]
    packages: tuple[str, ...] = Field(description="What was asked for beside flat-bug.")
    asked: str = Field(description="Digest of all that the choice of wheels depends on.")
    lock: FileEntry
    wheels: tuple[WheelEntry, ...]
    installed: Size
    packed: dict[str, FileEntry]
    packed_from: str = Field("", description="Digest of the lock that the packed forms hold.")

    @property
    def target(self) -> Target:
        """What the wheels were chosen for."""
        return Target(self.python_version, self.machine, self.glibc)

    def write(self, dist: Path) -> None:
        """Write it into its folder, whole or not at all."""
        write_json(dist / MANIFEST_NAME, self.model_dump())


def read_manifest(dist: Path) -> Manifest:
    """Read the manifest of an environment.

    Raises:
        MissingPartError: There is none, or it is damaged.
    """
    path = dist / MANIFEST_NAME
    mend = f"Run: fb env build -o {dist}"
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise MissingPartError(f"there is no environment: {error.strerror}", where=path, mend=mend) from error
    except ValidationError as error:
        raise MissingPartError("the manifest of the environment is damaged", where=path, mend=mend) from error
