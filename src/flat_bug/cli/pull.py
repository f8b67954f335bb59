"""``fb data pull``: a bucket of an object store into a folder."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.types import PositiveInt

from flat_bug.cli._support import print_json, print_lines, print_table
from flat_bug.datasets.pull import JOBS, Pulled
from flat_bug.datasets.pull import pull as pull_bucket
from flat_bug.datasets.pull_keys import shown
from flat_bug.datasets.s3_access import find_access
from flat_bug.datasets.space import readable
from flat_bug.errors import EXIT_ITEMS_FAILED, EXIT_MISSING_PART, EXIT_OK

MOST_ROWS = 20


def pull(
    source: str,
    folder: Path,
    /,
    *,
    endpoint_url: str | None = None,
    region: str | None = None,
    profile: str | None = None,
    anonymous: bool = False,
    jobs: Annotated[PositiveInt, Parameter(["--jobs", "-j"])] = JOBS,
    verify: bool = False,
    delete: bool = False,
    allow_empty: bool = False,
    dry_run: Annotated[bool, Parameter(["--dry-run", "-n"])] = False,
    json: bool = False,
) -> int:
    """Pull a bucket into a folder: only what is missing or has changed, every byte checked.

    Run it again after an interruption, or to bring the folder up to date.
    Credentials and region are those that other S3 clients use: AWS_ACCESS_KEY_ID and
    AWS_SECRET_ACCESS_KEY, or a profile in ~/.aws/credentials.

    Example: fb data pull s3://flat-bug-data-stable/pre-pro pre-pro --endpoint-url https://se-sto-1.linodeobjects.com

    Args:
        source: s3://bucket/prefix; a /* at the end changes nothing.
        folder: Folder to pull into; made when absent.
        endpoint_url: Address of the server; by default AWS_ENDPOINT_URL, or Amazon's.
        region: Region to sign for; by default AWS_REGION.
        profile: Profile with credentials; by default AWS_PROFILE, after variables that hold some.
        anonymous: Ask without credentials, for a public bucket.
        jobs: Files at a time, 16 by default.
        verify: Read every local file and compare its digest, not its size and time only.
        delete: Remove files that an earlier pull brought and that are no longer in the bucket.
        allow_empty: It is right that nothing is there; with --delete, remove all that was pulled.
        dry_run: Say what would be done and do nothing.
        json: Print one machine-readable object.
    """
    access = find_access(endpoint_url=endpoint_url, region=region, profile=profile, anonymous=anonymous)
    pulled = pull_bucket(
        source, folder, access, jobs=jobs, verify=verify, delete=delete, allow_empty=allow_empty, dry_run=dry_run
    )
    if json:
        print_json(_as_json(pulled, dry_run=dry_run))
    elif dry_run:
        _print_plan(pulled, delete=delete)
    else:
        _print_result(pulled)
    sys.stdout.flush()  # before what goes to standard error
    if not json:
        _print_notes(pulled, dry_run=dry_run)
    _print_failures(pulled)
    if pulled.unreachable:
        return EXIT_MISSING_PART
    return EXIT_ITEMS_FAILED if pulled.failed else EXIT_OK


def _print_plan(pulled: Pulled, *, delete: bool) -> None:
    # A pull that finds nothing to do would spend a third of its time on this import.
    import polars as pl  # noqa: PLC0415

    plan = pulled.plan
    rows = [("fetch", step.why, step) for step in plan.fetch] + [("compare", step.why, step) for step in plan.compare]
    table = [
        {"do": do, "because": str(why), "bytes": step.wanted.remote.size, "file": shown(step.wanted.path)}
        for do, why, step in rows
    ]
    table += [
        {"do": "remove" if delete else "leave", "because": "gone from the bucket", "bytes": None, "file": shown(path)}
        for path in pulled.gone
    ]
    if table:
        print_table(pl.DataFrame(table, infer_schema_length=None))
    size = sum(step.wanted.remote.size for step in plan.fetch)
    print(
        f"Would fetch {_files(len(plan.fetch))}, {readable(size)}, and compare {len(plan.compare)}; "
        f"{plan.unchanged} unchanged"
    )


def _print_result(pulled: Pulled) -> None:
    rate = f", {readable(round(pulled.size / pulled.seconds))}/s" if pulled.size else ""
    same = pulled.plan.unchanged + pulled.compared
    removed = f", {len(pulled.removed)} removed" if pulled.removed else ""
    repaired = f", of them {pulled.repaired} repaired" if pulled.repaired else ""
    print(
        f"Pulled: {_files(pulled.fetched)}{repaired}, {readable(pulled.size)} in {pulled.seconds:.1f} s{rate}; "
        f"{same} unchanged{removed}"
    )
    print(f"Folder: {pulled.folder}")
    print(f"Manifest: {pulled.manifest}")


def _print_notes(pulled: Pulled, *, dry_run: bool) -> None:
    notes = [pulled.note] if pulled.note else []
    if pulled.by_size:
        notes.append(
            f"the server has no digest of {_files(pulled.by_size)}: only their size was checked "
            '("checked":"size" in the manifest)'
        )
    if pulled.kept:
        notes.append(f"{_files(len(pulled.kept))} had other bytes here, perhaps changed by you; kept aside:")
        notes += [f"  {shown(str(path))}" for path in pulled.kept[:MOST_ROWS]]
        if len(pulled.kept) > MOST_ROWS:
            notes.append(f"  and {len(pulled.kept) - MOST_ROWS} more beside them")
    left = [path for path in pulled.gone if path not in {*pulled.removed, *pulled.changed_here}]
    if left and not dry_run:
        some = "1 file that was pulled is" if len(left) == 1 else f"{len(left)} files that were pulled are"
        notes.append(f"{some} no longer in the bucket; --delete removes {'it' if len(left) == 1 else 'them'}")
    notes += [
        f"{shown(path)} is no longer in the bucket, but was changed here: not removed" for path in pulled.changed_here
    ]
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


def _print_failures(pulled: Pulled) -> None:
    for failure in pulled.failed[:MOST_ROWS]:
        print_lines([f"{shown(failure.key)}: {shown(failure.reason)}"])
    if len(pulled.failed) > MOST_ROWS:
        print_lines([f"and {len(pulled.failed) - MOST_ROWS} more files; --json names them all"])
    if pulled.unreachable:
        print_lines(
            [
                f"the server no longer answers; {_files(pulled.not_tried)} are still missing",
                pulled.source,
                "Run the same command again; what is complete is kept.",
            ]
        )


def _as_json(pulled: Pulled, *, dry_run: bool) -> dict[str, Any]:
    plan = pulled.plan
    result: dict[str, Any] = {
        "source": pulled.source,
        "folder": str(pulled.folder),
        "manifest": str(pulled.manifest),
        "dry_run": dry_run,
        "unchanged": plan.unchanged,
        "gone": list(pulled.gone),
        "failed": [asdict(failure) for failure in pulled.failed],
    }
    if dry_run:
        steps = {"fetch": plan.fetch, "compare": plan.compare}
        return result | {
            name: [{"file": step.wanted.path, "bytes": step.wanted.remote.size, "why": step.why} for step in chosen]
            for name, chosen in steps.items()
        }
    return result | {
        "fetched": pulled.fetched,
        "bytes": pulled.size,
        "repaired": pulled.repaired,
        "compared": pulled.compared,
        "checked_by_size": pulled.by_size,
        "kept": [str(path) for path in pulled.kept],
        "removed": pulled.removed,
        "changed_here": pulled.changed_here,
        "not_tried": pulled.not_tried,
        "unreachable": pulled.unreachable,
        "seconds": pulled.seconds,
    }


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"
