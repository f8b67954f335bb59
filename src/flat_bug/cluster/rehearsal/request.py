"""What a throw-away cluster must be like for the jobs of a run to start on it: what their options of sbatch ask for."""

import math
import re
from collections.abc import Iterable, Mapping

from flat_bug.cluster.option_values import Value, megabytes_of
from flat_bug.cluster.profile import ClusterProfile
from flat_bug.cluster.rehearsal.shape import GUIDE_MODULES, ClusterShape
from flat_bug.errors import UsageError

ONLY_ON_THE_REAL_ONE = frozenset({"clusters", "dependency", "exclude", "nodefile", "nodelist", "reservation"})
"""Options that name things which no other cluster has."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
ROOM_TO_GROW = 2
"""``fb resume --grow`` doubles what a job asks for."""
SPARE_MB = 1024
MOST_NODES = 64
"""Each node is a daemon on this machine."""
MOST_GPUS = 64
"""Each is a file."""

Options = Mapping[str, Value]


def shape_for(
    jobs: Iterable[Options], profile: ClusterProfile, setup: str = "", *, nodes: int, gpus: int
) -> ClusterShape:
    """Return a cluster on which jobs can start, like the one of the profile in what it lacks and limits.

    Args:
        jobs: The options of each kind of job.
        profile: The cluster that the jobs are meant for.
        setup: The user's own script of the job, whose modules are pretended, too.
        nodes: Nodes that it has at least.
        gpus: GPUs that each node has at least.

    Raises:
        UsageError: The jobs ask for something that only the real cluster has, or by an impossible name.
    """
    kinds = list(jobs)
    for options in kinds:
        _refuse_what_only_the_real_one_has(options)
    gres = [wish for options in kinds for wish in _gres(options)]
    types = sorted({kind for name, kind, _ in gres if name == "gpu" and kind})
    if len(types) > 1:
        raise UsageError("a rehearsal pretends one type of GPU", where=", ".join(types), mend="Ask for one type.")
    accounting = profile.accounting
    return ClusterShape(
        nodes=_at_most(MOST_NODES, "nodes", [nodes, *(_nodes(options) for options in kinds)]),
        gpus=_at_most(MOST_GPUS, "GPUs of a node", [gpus, *(count for name, _, count in gres if name == "gpu")]),
        gpu_type=types[0] if types else "t4",
        cpus=max([4, *(_cpus(options) for options in kinds)]),
        memory_mb=SPARE_MB + ROOM_TO_GROW * max([4096, *(_memory_mb(options) for options in kinds)]),
        accounting=accounting,
        accounts=_names(kinds, "account", profile.accounts) if accounting else (),
        qos=tuple(name for name in _names(kinds, "qos") if name != "normal") if accounting else (),
        max_submit_jobs=profile.max_submit_jobs if accounting else None,
        max_array_size=profile.max_array_size,
        arrays=profile.arrays,
        node_folder="SLURM_TMPDIR" in profile.node_folders,
        internet=False,
        modules=_modules([*profile.modules, *_modules_in(setup)]),
        partitions=_names(kinds, "partition", profile.partitions[:1]) or ("main",),
        features=_features(kinds),
        countable=_countable(gres),
        licenses=_licenses(kinds),
    )


def _refuse_what_only_the_real_one_has(options: Options) -> None:
    for name in sorted(ONLY_ON_THE_REAL_ONE & options.keys()):
        raise UsageError(
            "only the real cluster has what this option names",
            where=f"{name}={options[name]}",
            mend="Leave it out of the rehearsal.",
        )


def _at_most(most: int, what: str, wanted: Iterable[int]) -> int:
    """Return the largest of some numbers, as far as this machine can pretend to have so many."""
    largest = max(wanted)
    if largest > most:
        raise UsageError(f"a rehearsal has at most {most} {what}", where=str(largest), mend="Ask for fewer.")
    return largest


def _names(kinds: Iterable[Options], option: str, also: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the names that an option gives, separated by commas, and others; each once."""
    given = [name for options in kinds for name in _text(options, option).split(",") if name]
    return tuple(dict.fromkeys(_checked(name, option) for name in [*given, *also]))


def _checked(name: str, option: str) -> str:
    """Return a name that becomes part of a configuration file, which it must not be able to leave."""
    if not _NAME.fullmatch(name):
        raise UsageError("Slurm has no such names", where=f"{option}={name!r}", mend=f"Correct {option}.")
    return name


def _text(options: Options, name: str) -> str:
    value = options.get(name, "")
    return value if isinstance(value, str) else ""


def _number(options: Options, name: str, default: int = 0) -> int:
    """Return the largest number in a value: of ``2-4`` the 4."""
    found = re.findall(r"\d+", _text(options, name))
    return max(map(int, found), default=default)


def _nodes(options: Options) -> int:
    return _number(options, "nodes", 1)


def _tasks_per_node(options: Options) -> int:
    tasks = math.ceil(_number(options, "ntasks", 1) / max(1, _nodes(options)))
    return max(1, tasks, _number(options, "ntasks-per-node"))


def _gpus_per_node(options: Options) -> int:
    return max([0, *(count for name, _, count in _gres(options) if name == "gpu")])


def _cpus(options: Options) -> int:
    by_task = _number(options, "cpus-per-task", 1) * _tasks_per_node(options)
    by_gpu = _number(options, "cpus-per-gpu") * _gpus_per_node(options)
    return max(by_task, by_gpu, _number(options, "mincpus"))


def _memory_mb(options: Options) -> int:
    found = [0.0]
    for name, times in (("mem", 1), ("mem-per-cpu", _cpus(options)), ("mem-per-gpu", _gpus_per_node(options))):
        if text := _text(options, name):
            found.append(megabytes_of(text) * max(1, times))
    return math.ceil(max(found))


def _gres(options: Options) -> list[tuple[str, str, int]]:
    """Return name, type and count for each node of the generic resources that a job asks for."""
    found = []
    for text in filter(None, _text(options, "gres").split(",")):
        name, *rest = text.removeprefix("gres:").split(":")
        found.append((name, *_type_and_count(rest, text)))
    for option, share in (
        ("gpus", _nodes(options)),
        ("gpus-per-node", 1),
        ("gpus-per-task", 1 / _tasks_per_node(options)),
    ):
        for text in filter(None, _text(options, option).split(",")):
            kind, count = _type_and_count(text.split(":"), text)
            found.append(("gpu", kind, math.ceil(count / share)))
    return found


def _type_and_count(parts: list[str], text: str) -> tuple[str, int]:
    """Return type and count of ``a100:2``, ``a100``, ``2``, or nothing at all."""
    last = re.fullmatch(r"(\d+)([kmgt]?)", parts[-1], re.IGNORECASE) if parts else None
    kinds = parts[:-1] if last else parts
    if len(kinds) > 1 or not all(_NAME.fullmatch(kind) for kind in kinds):
        raise UsageError("this is no generic resource", where=text, mend="Write it as gpu:t4:1.")
    factor = 1024 ** "kmgt".find(last[2].lower()) * 1024 if last and last[2] else 1
    return (kinds[0] if kinds else ""), (int(last[1]) * factor if last else 1)


def _countable(gres: Iterable[tuple[str, str, int]]) -> tuple[str, ...]:
    most: dict[str, int] = {}
    for name, _, count in gres:
        if name != "gpu":
            most[_checked(name, "gres")] = max(count, most.get(name, 1))
    return tuple(f"{name}:{count}" for name, count in sorted(most.items()))


def _features(kinds: Iterable[Options]) -> tuple[str, ...]:
    texts = [_text(options, name) for options in kinds for name in ("constraint", "prefer")]
    words = [word for text in texts for word in re.split(r"[&|,\[\]()*\s]+", text) if word and not word.isdecimal()]
    return tuple(dict.fromkeys(_checked(word, "constraint") for word in words))


def _licenses(kinds: Iterable[Options]) -> tuple[str, ...]:
    words = [word for options in kinds for word in re.split(r"[,;]", _text(options, "licenses")) if word]
    names = dict.fromkeys(_checked(re.split("[@:]", word)[0], "licenses") for word in words)
    return tuple(f"{name}:1000" for name in names)


def _modules(asked: list[str]) -> tuple[str, ...]:
    """Return those that are asked for and those of the guide; a name alone means whichever version there is."""
    names = dict.fromkeys([*GUIDE_MODULES, *asked])
    with_version = {name.partition("/")[0] for name in names if "/" in name}
    return tuple(name for name in names if "/" in name or name not in with_version)


def _modules_in(setup: str) -> list[str]:
    """Return the modules that a script loads by name."""
    loads = re.findall(r"^\s*module\s+(?:load|add)\s+(.+)$", setup, re.MULTILINE)
    return [word for load in loads for word in load.split() if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+/-]*", word)]
