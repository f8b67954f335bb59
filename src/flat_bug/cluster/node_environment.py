"""Make the environment of a job on its node, by the fastest way that works there, without the network.

    PYTHON -I node_environment.py SETTINGS.json TARGET      prints the interpreter to use, and nothing else
    PYTHON -I node_environment.py --clean TARGET            unmounts and removes what was made

A script, not a module of the program: the interpreter of the node runs it before flat-bug is there. So it imports the
standard library only, and its syntax is such that an old interpreter gets as far as the line that says so.
"""

import errno
import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

if sys.version_info < (3, 9):  # noqa: UP036 - whatever python3 is on a node may run this
    sys.exit(f"environment: {sys.executable} is Python {platform.python_version()}; load the module of the profile")

FOLDER = "environment"
WAYS = ("squashfs", "tar", "uv", "pip")
SUBMITTING = "submitting-python"
VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
SITE_PACKAGES = Path("lib", f"python{VERSION}", "site-packages")
SECONDS_TO_IMPORT = 300
SPARE_BYTES = 64 << 20
QUIET: "dict[str, Any]" = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


class NotPossibleError(Exception):
    """One way to the environment does not work on this node; the message says why."""


class Site:
    """What is asked for, and where: the settings, the folder on the node, the environment's manifest."""

    def __init__(self, settings: "dict[str, Any]", target: Path) -> None:
        self.settings = settings
        self.folder = target / FOLDER
        self.env = self.folder / "env"
        self.python = self.env / "bin" / "python"
        self.mount = self.folder / "mount"
        self.record = self.folder / "made.json"
        self.dist = Path(str(settings.get("dist")))
        self.manifest: dict[str, Any] = {}

    def read_manifest(self) -> None:
        """Read what ``fb env build`` has written."""
        path = self.dist / "environment.json"
        try:
            self.manifest = json.loads(path.read_text(encoding="utf-8"))
            asked_later = ("version", "python_version", "machine", "glibc", "lock", "wheels", "packed", "installed")
            [self.manifest[name] for name in asked_later]
        except OSError as error:
            raise NotPossibleError(f"{path} cannot be read: {error.strerror}") from error
        except (ValueError, TypeError, KeyError) as error:
            raise NotPossibleError(f"{path} is damaged: {error!r}") from error

    def packed(self, form: str) -> "tuple[Path, dict[str, Any]]":
        """Return the file of a packed form, whose content is not verified yet, and its entry in the manifest."""
        entry = self.manifest["packed"].get(form)
        if entry is None:
            raise NotPossibleError("it was not built")
        path = self.dist / entry["file"]
        check_size(path, entry)
        return path, entry


def log(text: str) -> None:
    """Tell the log of the job."""
    print(f"environment: {text}", file=sys.stderr, flush=True)  # noqa: T201 - this is the log


def check_size(path: Path, entry: "dict[str, Any]") -> None:
    """Refuse a file that is absent or cut short, before any of it is read."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise NotPossibleError(f"{path} cannot be read: {error.strerror}") from error
    if size != entry["bytes"]:
        raise NotPossibleError(f"{path} is damaged: it has {size} bytes instead of {entry['bytes']}")


def verify(path: Path, entry: "dict[str, Any]") -> None:
    """Refuse a file that is not the one that the manifest describes."""
    check_size(path, entry)
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    if digest.hexdigest() != entry["sha256"]:
        raise NotPossibleError(f"{path} is damaged: its content is not what was built")


def check_interpreter(manifest: "dict[str, Any]") -> None:
    """Refuse an interpreter, processor or C library that the environment was not made for."""
    wanted = manifest["python_version"]
    if wanted != VERSION:
        raise NotPossibleError(f"{sys.executable} is Python {VERSION}, the environment is for Python {wanted}")
    if platform.machine() != manifest["machine"]:
        raise NotPossibleError(f"this node is {platform.machine()}, the environment is for {manifest['machine']}")
    library, version = platform.libc_ver()
    if library == "glibc" and int(version.split(".")[1]) < int(manifest["glibc"].split(".")[1]):
        raise NotPossibleError(f"this node has glibc {version}, the environment is for {manifest['glibc']}")


def check_space(folder: Path, needed: "dict[str, Any]") -> None:
    """Refuse to start writing what will not fit."""
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    if free < needed["bytes"] + SPARE_BYTES:
        raise NotPossibleError(f"{folder} has {free >> 20} MB free, {needed['bytes'] >> 20} MB are needed")
    # Some file systems have no fixed number of files, and say zero.
    if disk.f_files and disk.f_favail < needed["files"]:
        raise NotPossibleError(f"{folder} has room for {disk.f_favail} files, {needed['files']} are needed")


def by_squashfs(site: Site) -> None:
    """Mount the packed environment where it lies: only what is imported is unpacked, and nothing is written."""
    if site.settings.get("persistent"):
        raise NotPossibleError("a mount would end with the step that makes it, and later steps need it")
    image, entry = site.packed("squashfs")
    program = shutil.which("squashfuse_ll") or shutil.which("squashfuse")
    if program is None:
        raise NotPossibleError("squashfuse is not on this node")
    # Read once and in order: a network file system gives that faster than blocks here and there, and they stay cached.
    verify(image, entry)
    site.mount.mkdir()
    run([program, "-o", "ro", str(image), str(site.mount)], site)
    if not is_mounted(site.mount):
        raise NotPossibleError(f"{program} left nothing mounted")
    make_venv(site)
    (site.env / SITE_PACKAGES).rmdir()
    link_what_is_absent(site.mount, site.env)
    link_what_is_absent(site.mount / "lib", site.env / "lib")
    (site.env / SITE_PACKAGES).symlink_to(site.mount / SITE_PACKAGES)
    for path in (site.mount / "bin").iterdir():
        with path.open("rb") as stream:
            is_script = stream.read(2) == b"#!"
        # A script looks for the interpreter beside itself, links resolved: it must really lie in the folder.
        if is_script:
            shutil.copy(path, site.env / "bin" / path.name)
    link_what_is_absent(site.mount / "bin", site.env / "bin")


def link_what_is_absent(source: Path, target: Path) -> None:
    """Link what lies in a folder from another, unless it is there already."""
    for path in source.iterdir():
        if not os.path.lexists(target / path.name):
            (target / path.name).symlink_to(path)


def by_tar(site: Site) -> None:
    """Unpack the packed environment."""
    archive, entry = site.packed("tar")
    program = shutil.which("tar")
    if program is None:
        raise NotPossibleError("tar is not on this node")
    # What lies in a tar takes no more than the tar.
    check_space(site.folder, entry)
    site.env.mkdir()
    # As standard input and working folder: tar takes a colon in a name for a host, and a backslash for an escape.
    options = {**QUIET, "stdin": archive.open("rb"), "cwd": site.env}
    with options["stdin"], subprocess.Popen([program, "-x", "--no-same-owner", "-f", "-"], **options) as unpacking:
        try:
            # While tar reads the same pages: nothing of it is used before the digest is known.
            verify(archive, entry)
        except BaseException:
            unpacking.kill()
            raise
    if unpacking.returncode:
        raise NotPossibleError(f"tar ended with {unpacking.returncode} in {site.env}")
    make_venv(site)


def by_uv(site: Site) -> None:
    """Install the wheels with the uv that is one of them."""
    wheel = checked_wheelhouse(site, "uv")
    with zipfile.ZipFile(wheel) as archive:
        member = next((name for name in archive.namelist() if name.endswith(".data/scripts/uv")), None)
        if member is None:
            raise NotPossibleError(f"{wheel} has no uv in it")
        program = Path(archive.extract(member, site.folder))
    program.chmod(0o700)
    make_venv(site)
    # The cache is on the same disk, so that its files are linked and not copied.
    cache = site.folder / "cache"
    install = [str(program), "pip", "install", "--quiet", "--cache-dir", str(cache), "--python", str(site.python)]
    run([*install, *what_to_install(site)], site)
    shutil.rmtree(cache, ignore_errors=True)


def by_pip(site: Site) -> None:
    """Install the wheels with the pip that is one of them; slow, and possible everywhere."""
    wheel = checked_wheelhouse(site, "pip")
    make_venv(site)
    # pip runs from inside its wheel. Compiling everything takes longer than compiling what is imported.
    install = [str(site.python), "-I", str(wheel / "pip"), "install", "--quiet", "--no-compile", "--no-cache-dir"]
    run([*install, *what_to_install(site)], site)


BY: "dict[str, Callable[[Site], None]]" = {"squashfs": by_squashfs, "tar": by_tar, "uv": by_uv, "pip": by_pip}


def checked_wheelhouse(site: Site, installer: str) -> Path:
    """Return the wheel of the installer; refuse a lock that is not the one that was built, and a disk too small."""
    verify(site.dist / site.manifest["lock"]["file"], site.manifest["lock"])
    check_space(site.folder, site.manifest["installed"])
    for wheel in site.manifest["wheels"]:
        if wheel["name"] == installer:
            path = Path(wheel.get("folder") or site.dist, wheel["file"])
            verify(path, wheel)
            return path
    raise NotPossibleError(f"{installer} is not in the wheelhouse")


def what_to_install(site: Site) -> "list[str]":
    """Return the options that both installers have."""
    lock = site.dist / site.manifest["lock"]["file"]
    return ["--no-index", "--find-links", str(site.dist), "--require-hashes", "-r", str(lock)]


def make_venv(site: Site) -> None:
    """Make the folder an environment of the interpreter that runs this, wherever that lies on this node."""
    import venv  # noqa: PLC0415 - a distribution may ship it apart; then the other errors here come first

    venv.EnvBuilder(symlinks=True, with_pip=False).create(site.env)


def run(command: "list[str]", site: Site) -> None:
    """Run a program, whose failure is a reason to try the next way."""
    temporary = site.folder / "tmp"
    temporary.mkdir(exist_ok=True)
    # No index, no configuration of the user or the site, and no packages of the modules.
    ignored = ("UV_", "PIP_", "PYTHON", "VIRTUAL_ENV")
    variables = {name: value for name, value in os.environ.items() if not name.startswith(ignored)}
    variables.update(UV_OFFLINE="1", UV_NO_CONFIG="1", UV_PYTHON_DOWNLOADS="never", TMPDIR=str(temporary))
    variables.update(PIP_NO_INDEX="1", PIP_CONFIG_FILE=os.devnull, PIP_DISABLE_PIP_VERSION_CHECK="1")
    # Not a pipe: a daemon would keep it open, and we would wait for its end.
    with (temporary / "messages").open("w+", encoding="utf-8", errors="replace") as messages:
        code = subprocess.call(command, stdin=subprocess.DEVNULL, stdout=messages, stderr=messages, env=variables)
        messages.seek(0)
        said = " ".join(messages.read().split())
    if code:
        raise NotPossibleError(f"{Path(command[0]).name} ended with {code}: {said[-800:]}")


def prove(python: Path, version: str, inside: "Path | None") -> None:
    """Import flat-bug once with an interpreter: the right version, from the right place."""
    # -I, so that packages of the modules do not hide what is missing; the submitting interpreter may need them.
    command = [str(python), *(["-I"] if inside else []), "-c"]
    code = "import flat_bug; print(flat_bug.__version__, flat_bug.__file__, sep='\\n')"
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "cwd": "/"}
    try:
        done = subprocess.run([*command, code], check=False, timeout=SECONDS_TO_IMPORT, **pipes)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotPossibleError(f"{python} does not run: {error}") from error
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
        raise NotPossibleError(f"{python} cannot import flat_bug: {reason[:300]}")
    found, _, place = done.stdout.partition("\n")
    if inside and (found != version or not place.startswith(str(inside))):
        raise NotPossibleError(f"it imports flat-bug {found} from {place} instead of {version} from {inside}")


@contextmanager
def held(folder: Path) -> "Iterator[None]":
    """Hold the folder: of several processes on one node the first makes the environment, and the others wait."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log(f"another process is at work in {folder}; waiting")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            # The disk of a node has locks; where the target is on a network file system it may have none.
            if error.errno not in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK):
                raise
        yield
    finally:
        os.close(descriptor)


def made_before(site: Site) -> bool:
    """Return whether an earlier call with these settings has made an environment that still works."""
    try:
        made = json.loads(site.record.read_text(encoding="utf-8"))
        # Read, not asked for: of a mount whose daemon is dead the kernel still knows which files there were.
        (site.env / SITE_PACKAGES / "flat_bug" / "__init__.py").read_bytes()
    except (OSError, ValueError):
        return False
    return bool(made == site.settings) and os.access(site.python, os.X_OK)


def discard(site: Site) -> None:
    """Unmount and remove what an attempt has left; the lock stays, others may wait for it."""
    unmount(site.mount)
    for path in site.folder.glob("*"):
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "lock":
            path.unlink()


def is_mounted(folder: Path) -> bool:
    """Return whether something is mounted there, also when its daemon is dead: then only this list tells."""
    place = os.fsencode(os.path.join(os.path.realpath(folder.parent), folder.name))  # noqa: PTH118 - not the mount itself
    mounts = Path("/proc/self/mounts").read_bytes().splitlines()
    # Spaces and the like are octal escapes there.
    return place in {line.split(b" ")[1].decode("unicode_escape").encode("latin-1") for line in mounts}


def unmount(folder: Path) -> None:
    """Unmount a folder by whichever program may; what stays mounted must not be removed."""
    programs = (("fusermount3", "-u"), ("fusermount", "-u"), ("umount",), ("fusermount3", "-uz"), ("umount", "-l"))
    for program, *options in programs:
        if is_mounted(folder) and shutil.which(program):
            subprocess.call([program, *options, str(folder)], **QUIET)
    if is_mounted(folder):
        raise NotPossibleError(f"{folder} cannot be unmounted")


def make(site: Site) -> str:
    """Make the environment, or find it made, and return its interpreter."""
    method = site.settings.get("method", "auto")
    if method not in ("auto", SUBMITTING, *WAYS):
        raise NotPossibleError(f"there is no method {method!r}, only auto, {', '.join(WAYS)}, {SUBMITTING}")
    has_dist = bool(site.settings.get("dist"))
    if method == SUBMITTING or (method == "auto" and not has_dist):
        prove(Path(site.settings["python"]), "", None)
        log(f"{SUBMITTING}, because {'it was asked for' if method == SUBMITTING else 'no environment is named'}")
        return str(site.settings["python"])
    if not has_dist:
        raise NotPossibleError(f"the method {method} needs an environment, and none is named")
    site.read_manifest()
    check_interpreter(site.manifest)
    with held(site.folder):
        if made_before(site):
            log(f"made before in {site.folder}")
        else:
            make_by_the_first_that_works(site, WAYS if method == "auto" else (method,))
        return str(site.python)


def make_by_the_first_that_works(site: Site, ways: "tuple[str, ...]") -> None:
    """Try the ways in their order; each that fails leaves nothing behind."""
    reasons = []
    for way in ways:
        start = time.monotonic()
        discard(site)
        try:
            BY[way](site)
            prove(site.python, site.manifest["version"], site.folder)
            site.record.write_text(json.dumps(site.settings), encoding="utf-8")
        except (NotPossibleError, OSError, ImportError, zipfile.BadZipFile) as error:
            log(f"not {way}: {error}")
            reasons.append(f"{way}: {error}")
            continue
        because = "; ".join(reasons) or ("it was asked for" if len(ways) == 1 else "it is the fastest way")
        log(f"{way}, ready in {time.monotonic() - start:.1f} s, because {because}")
        return
    discard(site)
    raise NotPossibleError("; ".join(reasons))


def main(words: "list[str]") -> int:
    """Run the script and return its exit code."""
    if len(words) != 2:
        log("usage: node_environment.py SETTINGS.json TARGET, or --clean TARGET")
        return 2
    target = Path(os.path.abspath(words[1]))  # noqa: PTH100 - links stay: they may be the name that all nodes share
    settings: Any = {}
    try:
        if words[0] == "--clean":
            site = Site({}, target)
            discard(site)
            shutil.rmtree(site.folder, ignore_errors=True)
        else:
            settings = json.loads(Path(words[0]).read_text(encoding="utf-8"))
            print(make(Site(settings, target)), flush=True)  # noqa: T201 - the answer
    except (NotPossibleError, OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        dist = settings.get("dist") if isinstance(settings, dict) else None
        log(f"none could be made in {target}: {error}. Mend it on the login node: fb env check {dist or 'DIST'}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
