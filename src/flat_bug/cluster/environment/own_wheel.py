"""The wheel of flat-bug itself: of the checkout that it runs from, or of the files that were installed."""

import json
import zipfile
import zlib
from base64 import urlsafe_b64encode
from hashlib import sha256
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from flat_bug.cluster.environment.tools import run_uv
from flat_bug.errors import MissingPartError

NAME = "flat-bug"
NOT_IN_A_WHEEL = {"INSTALLER", "RECORD", "REQUESTED", "direct_url.json", "uv_build.json", "uv_cache.json"}
"""What installers add to the metadata."""
FIRST_DATE = (1980, 1, 1, 0, 0, 0)
"""The same files must make the same wheel, whenever they were installed."""


def build_own_wheel(folder: Path) -> Path:
    """Build the wheel of the flat-bug that runs, as it is now, and return its path in ``folder``.

    Raises:
        MissingPartError: It cannot be built.
    """
    try:
        installed = distribution(NAME)
    except PackageNotFoundError as error:
        raise MissingPartError(
            "flat-bug is not installed, so there is no wheel of it", mend="pip install -e ."
        ) from error
    checkout = _checkout(installed)
    if checkout is None:
        return wheel_of_installed(installed, folder)
    run_uv(
        ["build", "--wheel", "--out-dir", str(folder), str(checkout)], what=f"flat-bug cannot be built from {checkout}"
    )
    return next(folder.glob("flat_bug-*.whl"))


def wheel_of_installed(installed: Distribution, folder: Path) -> Path:
    """Put the files of an installed distribution together again as a wheel.

    Raises:
        MissingPartError: A file that belongs to it is gone.
    """
    tag = next(line[5:] for line in (installed.read_text("WHEEL") or "").splitlines() if line.startswith("Tag: "))
    name = installed.metadata["Name"].replace("-", "_")
    wheel = folder / f"{name}-{installed.version}-{tag}.whl"
    record = []
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(installed.files or (), key=str):
            if ".." in path.parts or path.suffix == ".pyc" or path.name in NOT_IN_A_WHEEL:
                continue
            try:
                content = path.read_binary()
            except OSError as error:
                raise MissingPartError(
                    "a file of the installed flat-bug is gone", where=str(path.locate()), mend="Install flat-bug again."
                ) from error
            archive.writestr(zipfile.ZipInfo(str(PurePosixPath(path)), FIRST_DATE), content, zipfile.ZIP_DEFLATED)
            digest = urlsafe_b64encode(sha256(content).digest()).rstrip(b"=").decode()
            record.append(f"{path},sha256={digest},{len(content)}\n")
        place = f"{name}-{installed.version}.dist-info/RECORD"
        archive.writestr(zipfile.ZipInfo(place, FIRST_DATE), "".join([*record, f"{place},,\n"]), zipfile.ZIP_DEFLATED)
    return wheel


def changed_since(wheel: Path) -> list[str]:
    """Return which modules of the flat-bug that runs differ from those in a wheel."""
    package = Path(__file__).parents[2]
    with zipfile.ZipFile(wheel) as archive:
        held = {
            name.removeprefix("flat_bug/"): archive.getinfo(name).CRC
            for name in archive.namelist()
            if name.startswith("flat_bug/") and name.endswith(".py")
        }
    here = {path.relative_to(package).as_posix(): zlib.crc32(path.read_bytes()) for path in package.rglob("*.py")}
    return sorted(name for name in held.keys() | here.keys() if held.get(name) != here.get(name))


def _checkout(installed: Distribution) -> Path | None:
    """Return the checkout of an editable installation; its metadata may be older than its pyproject.toml."""
    origin = json.loads(installed.read_text("direct_url.json") or "{}")
    if not origin.get("dir_info", {}).get("editable"):
        return None
    checkout = Path(unquote(urlsplit(origin["url"]).path))
    if not (checkout / "pyproject.toml").is_file():
        raise MissingPartError(
            "the checkout that flat-bug was installed from is gone", where=checkout, mend="Install flat-bug again."
        )
    return checkout
