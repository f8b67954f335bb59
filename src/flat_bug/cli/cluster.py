"""``fb cluster``: profiles of clusters, and one from what a cluster says of itself."""

import re
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from flat_bug.cli._support import print_json, print_table
from flat_bug.cluster.probe import probe as probe_cluster
from flat_bug.cluster.profile import (
    DEFAULT,
    ClusterProfile,
    all_profiles,
    load_profile,
    profile_file,
    shipped_profiles,
    user_profiles,
)
from flat_bug.errors import FlatBugError, OutputError, UsageError
from flat_bug.files import write_text


def probe(
    *,
    name: str = DEFAULT,
    output: Annotated[Path | None, Parameter(["--output", "-o"])] = None,
    force: Annotated[bool, Parameter(["--force", "-f"])] = False,
    json: bool = False,
) -> None:
    """Write a profile of the cluster that you are logged in to.

    It asks scontrol, sinfo, sacctmgr and the modules; nothing is submitted. Each
    value has a comment that says where it comes from. Look it over: what nodes
    are like, a login node can only guess.

    Example: fb cluster probe

    Args:
        name: Name of the profile, default by default: the one that is used when none is named.
        output: File to write; by default NAME.yaml in ~/.config/flat-bug.
        force: Replace a file that is there.
        json: Print the profile as one JSON object.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise UsageError("a profile has letters, digits and . _ - in its name", where=f"--name {name!r}")
    path = output or user_profiles() / f"{name}.yaml"
    if path.exists() and not force:
        raise OutputError("there is a profile already", where=path, mend="--force replaces it; -o FILE writes another.")
    found = probe_cluster()
    write_text(path, found.text)
    if json:
        print_json({"file": str(path), "profile": found.profile.model_dump(mode="json"), "notes": list(found.notes)})
        return
    print(f"Profile: {path}", flush=True)
    for note in found.notes:
        print(f"note: {note}", file=sys.stderr)
    print("Look it over, then: fb doctor", flush=True)


def profiles(name: str | None = None, /, *, json: bool = False) -> None:
    """List the profiles of clusters, or print one.

    Example: fb cluster profiles alliance

    Args:
        name: Name or file of the profile to print.
        json: Print one machine-readable object.
    """
    if name is not None:
        _print_one(name, json=json)
        return
    rows = [_row(known, path) for known, path in sorted(all_profiles().items())]
    if json:
        print_json(rows)
        return
    import polars as pl  # noqa: PLC0415 - takes a quarter of a second to import

    print_table(pl.DataFrame(rows, infer_schema_length=None))
    used = profile_file()
    print(f"Used when none is named: {used.stem}")
    print(f"Your own: {user_profiles()}")


def _print_one(name: str, *, json: bool) -> None:
    path = profile_file(name)
    profile = ClusterProfile.from_yaml(path)
    if json:
        print_json({"file": str(path), "profile": profile.model_dump(mode="json")})
        return
    print(f"# {path}")
    print(path.read_text(encoding="utf-8"), end="")


def _row(name: str, path: Path) -> dict[str, Any]:
    source = "shipped" if path in shipped_profiles().values() else str(path)
    try:
        profile = load_profile(name)
    except FlatBugError as error:
        return {"name": name, "from": source, "account": None, "description": f"broken: {error.what}"}
    account = profile.default_account()
    return {"name": name, "from": source, "account": account, "description": profile.description or profile.name}
