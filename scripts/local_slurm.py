#!/usr/bin/env python3
"""A throw-away Slurm to try things on by hand.

    python scripts/local_slurm.py start --nodes 3
    eval "$(python scripts/local_slurm.py env)"
    sinfo
    python scripts/local_slurm.py stop

It stays until it is stopped; ``fb rehearse`` and the tests start their own.
"""

import argparse
import shlex
import sys
from dataclasses import replace
from pathlib import Path

from flat_bug.cluster.rehearsal.ending import PREFIX, end_cluster, usual_parent
from flat_bug.cluster.rehearsal.local_slurm import LocalSlurm
from flat_bug.cluster.rehearsal.shape import ClusterShape
from flat_bug.errors import FlatBugError


def main() -> int:
    """Do what the command line says and return the exit code."""
    options = parser().parse_args()
    try:
        options.do(options)
    except FlatBugError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=Path, default=usual_parent() / f"{PREFIX}by-hand", help="folder of its files")
    commands = parser.add_subparsers(required=True)
    shape = ClusterShape()
    starting = commands.add_parser("start", help="start it, and print what `env` prints")
    for name in ("nodes", "gpus", "cpus", "memory_mb", "max_array_size"):
        starting.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(shape, name))
    starting.add_argument("--accounts", nargs="*", default=(), help="accounts; jobs to any other are refused")
    starting.add_argument("--no-accounting", action="store_false", dest="accounting", help="no sacct")
    starting.set_defaults(do=start)
    commands.add_parser("env", help="print what a shell needs to find it").set_defaults(do=print_environment)
    commands.add_parser("stop", help="end it and remove its files").set_defaults(do=stop)
    for name, help_text, what in (
        ("crash-node", "have a node go down as by a power cut", "node"),
        ("start-node", "start a node again", "node"),
        ("out-of-memory", "end a running job as one that is out of memory", "job"),
        ("end-time-now", "have the time limit of a running job reached", "job"),
    ):
        failing = commands.add_parser(name, help=help_text)
        failing.add_argument("subject", metavar=what)
        failing.set_defaults(do=lambda options, verb=name: call(options, verb))
    return parser


def start(options: argparse.Namespace) -> None:
    """Start a cluster that stays."""
    asked = {name: getattr(options, name) for name in ("nodes", "gpus", "cpus", "memory_mb", "max_array_size")}
    shape = replace(ClusterShape(**asked), accounts=tuple(options.accounts), accounting=options.accounting)
    LocalSlurm(replace(shape, state=options.state)).start(keep=True)
    print_environment(options)


def print_environment(options: argparse.Namespace) -> None:
    """Print the variables as a shell reads them."""
    for name, value in LocalSlurm.attach(options.state).environment().items():
        print(f"export {name}={shlex.quote(value)}")


def stop(options: argparse.Namespace) -> None:
    """End the cluster."""
    end_cluster(options.state)


def call(options: argparse.Namespace, verb: str) -> None:
    """Have something fail, or serve again."""
    getattr(LocalSlurm.attach(options.state), verb.replace("-", "_"))(options.subject)


if __name__ == "__main__":
    sys.exit(main())
