"""``fb env``: the environment that jobs run in on a cluster."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from flat_bug.cli._support import print_json
from flat_bug.cluster.environment.build import build_environment
from flat_bug.cluster.environment.check import check_environment
from flat_bug.cluster.profile import load_profile


def build(
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("dist"),
    profile: str | None = None,
    extra: Annotated[list[str] | None, Parameter(name="--extra")] = None,
    packages: Annotated[list[str] | None, Parameter(name="--with")] = None,
    upgrade: bool = False,
    json: bool = False,
) -> None:
    """Build the environment that jobs run in, for nodes without the Internet.

    Wheels of flat-bug and all that it needs are chosen for the Python, processor
    and C library of the nodes, not of this machine, and locked by their digests.
    They are also packed, so that a node has them in a second. A second build
    keeps what is there.

    Example: fb env build --profile alliance -o dist --extra openvino

    Args:
        output: Folder of the wheelhouse, dist by default.
        profile: Name or file of the cluster's profile; by default your own, else generic.
        extra: Extra of flat-bug that the tasks need: train, openvino or gpu; may be given several times.
        packages: Another package to install, such as "scikit-image>=0.25"; may be given several times.
        upgrade: Choose the newest versions instead of those of the last build.
        json: Print the summary as one JSON object.
    """
    built = build_environment(
        load_profile(profile), output, extras=extra or (), packages=packages or (), upgrade=upgrade
    )
    manifest = built.manifest
    provided = sum(wheel.folder is not None for wheel in manifest.wheels)
    if json:
        print_json(
            {
                "output": str(built.dist),
                "downloaded": list(built.downloaded),
                "pruned": list(built.pruned),
                "notes": list(built.notes),
                "manifest": manifest.model_dump(),
            }
        )
        return
    size = sum(wheel.bytes for wheel in manifest.wheels)
    extras = f"[{','.join(manifest.extras)}]" if manifest.extras else ""
    print(f"flat-bug{extras} {manifest.version} for {manifest.target}")
    print(
        f"{len(manifest.wheels)} wheels, {_megabytes(size)}: "
        f"{len(built.downloaded)} downloaded, {provided} provided by the cluster, {len(built.pruned)} stale removed"
    )
    for form, entry in sorted(manifest.packed.items()):
        print(f"packed as {form}, {_megabytes(entry.bytes)}")
    print(f"Built: {built.dist}", flush=True)
    _print_notes(built.notes)


def check(
    dist: Path,
    /,
    *,
    profile: str | None = None,
    extra: Annotated[list[str] | None, Parameter(name="--extra")] = None,
    json: bool = False,
) -> None:
    """Prove that an environment is whole and closes without the network.

    Every file is compared with its digest, and what the tasks need is resolved
    from the wheelhouse alone. Do it before you queue anything.

    Example: fb env check dist --profile alliance --extra openvino

    Args:
        dist: Folder that fb env build has made.
        profile: Name or file of the cluster's profile; by default your own, else generic.
        extra: Extra of flat-bug that the tasks need; may be given several times.
        json: Print the result as one JSON object.
    """
    checked = check_environment(dist, load_profile(profile), extra or ())
    if json:
        print_json(
            {
                "dist": str(checked.dist),
                "good": checked.is_good,
                "problems": list(checked.problems),
                "notes": list(checked.notes),
                "mend": "" if checked.is_good else checked.mend,
                "seconds": round(checked.seconds, 3),
            }
        )
    _print_notes(checked.notes)
    if not checked.is_good or checked.manifest is None:
        raise checked.error()
    if not json:
        forms = ", ".join(sorted(checked.manifest.packed)) or "no packed form"
        print(f"Good: {checked.dist}, {len(checked.manifest.wheels)} wheels and {forms}, in {checked.seconds:.1f} s")


def _print_notes(notes: tuple[str, ...]) -> None:
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.0f} MB"
