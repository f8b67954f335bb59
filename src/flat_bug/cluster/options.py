"""The words after ``--slurm``: every option of sbatch, and some of our own; none of them is ever seen by a shell."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flat_bug.cluster.option_names import OWN, WITH_UNITS, bare, find_option, plain, shown
from flat_bug.cluster.option_values import Value, check_form, check_text
from flat_bug.cluster.sbatch_names import EXCLUSIVE, ONE_WISH, Kind, SbatchOption, Takes
from flat_bug.cluster.setup_file import find_setup
from flat_bug.errors import UsageError

YES = frozenset({"true", "yes", "on", "1"})
NO = frozenset({"false", "no", "off", "0"})
NEVER_SBATCH = frozenset({"slurm", "help", "version", "debug"})
"""Options that every command has."""


@dataclass(frozen=True)
class SlurmRequest:
    """What the words after ``--slurm`` ask for.

    Attributes:
        options: Options of sbatch by their long names, with hyphens.
        without: Flags that were turned off: ``exclusive=false``.
        setup: Script of the user's that prepares a node.
        profile: Name or file of the cluster's profile.
        environment: Folder that ``fb env build`` made.
        max_parallel: Most tasks at a time.
        tasks_per_job: Tasks that share an allocation.
        retries: How often a task that failed for want of luck is run again.
    """

    options: dict[str, Value] = field(default_factory=dict)
    without: frozenset[str] = frozenset()
    setup: Path | None = None
    profile: str | None = None
    environment: str | None = None
    max_parallel: int | None = None
    tasks_per_job: int | None = None
    retries: int | None = None

    def over(self, defaults: Mapping[str, Value]) -> dict[str, Value]:
        """Return the options of a job: these, and those of the defaults that they neither replace nor contradict."""
        said = {*self.options, *self.without}
        replaced = {name for group in ONE_WISH if group & said for name in group} | said
        return {name: value for name, value in defaults.items() if name not in replaced} | self.options


def parse_slurm(words: Sequence[str]) -> SlurmRequest:
    """Return what the words after ``--slurm`` ask for.

    Args:
        words: Each ``key=value``, ``--key=value``, ``--key value``, or a flag; ``_`` and ``-`` are the same in a key.

    Raises:
        UsageError: A word is unknown, has no value or an impossible one, or is not for users to set.
    """
    options: dict[str, Value] = {}
    without: set[str] = set()
    own: dict[str, str] = {}
    for name, value in _pairs(words):
        if name in OWN:
            own[OWN[name]] = _own_value(name, value)
            continue
        option = find_option(name)
        checked = _checked(option, name, value)
        # As for sbatch itself, the last word counts.
        options.pop(option.name, None)
        without.discard(option.name)
        if checked is None:
            without.add(option.name)
        else:
            options[option.name] = checked
    if "requeue" in without:  # leaving it out would leave it to the site
        options["no-requeue"] = True
    _check_together(options)
    return SlurmRequest(
        options,
        frozenset(without),
        find_setup(own["setup"]) if "setup" in own else None,
        own.get("profile"),
        own.get("environment"),
        _count(own, "max_parallel"),
        _count(own, "tasks_per_job"),
        _count(own, "retries", least=0),
    )


def parse_defaults(values: Mapping[str, str | int | bool]) -> dict[str, Value]:
    """Return the options of sbatch that a profile gives as names and values.

    Raises:
        UsageError: One is unknown, impossible, or not for a profile to set.
    """
    words = []
    for key, value in values.items():
        name = plain(key)
        if name in OWN and name != "profile":
            raise UsageError("this is no option of sbatch", where=key, mend="It stands beside resources, not in them.")
        # Here nobody means a profile of ours by it.
        own_name = "slurm-profile" if name == "profile" else name
        words.append(f"{own_name}={str(value).lower() if isinstance(value, bool) else value}")
    return parse_slurm(words).options


def gather_slurm_words(tokens: Sequence[str], own: Collection[str]) -> list[str]:
    """Return a command line in which options of sbatch that follow ``--slurm`` are words of it.

    ``--slurm mem=32GB --time 01:00:00 --hold`` becomes ``--slurm mem=32GB time=01:00:00 hold=true``, since otherwise
    they would be taken for options of the command.

    Args:
        tokens: The command line.
        own: The command's own long options, which take precedence: ``--output``.

    Raises:
        UsageError: An option is neither the command's nor sbatch's.
    """
    before, words, after = _split(tokens)
    if words is None:
        return before
    mine = {plain(name) for name in own if len(plain(name)) > 1} | NEVER_SBATCH
    rest: list[str] = []
    remaining = iter(after)
    for word in remaining:
        if word == "--":
            rest += [word, *remaining]
        elif word == "--slurm":
            continue
        elif not word.startswith("--") or plain(word.partition("=")[0]) in mine:
            rest.append(word)
        else:
            words.append(_as_word(word, remaining, mine))
    return [*before, "--slurm", *words, *rest]


def _split(tokens: Sequence[str]) -> tuple[list[str], list[str] | None, list[str]]:
    """Return what is before ``--slurm``, the words right behind it, and what follows; all is before where it is not."""
    for place, word in enumerate(tokens):
        if word == "--":
            break
        if word == "--slurm" or word.startswith("--slurm="):
            first = [word.partition("=")[2]] if "=" in word else []
            end = next((k for k in range(place + 1, len(tokens)) if tokens[k].startswith("-")), len(tokens))
            return list(tokens[:place]), [*first, *tokens[place + 1 : end]], list(tokens[end:])
    return list(tokens), None, []


def _as_word(word: str, following: Iterator[str], mine: set[str]) -> str:
    key, equals, value = word.partition("=")
    name = plain(key)
    takes = Takes.VALUE if name in OWN else find_option(name, mine).takes
    if equals:
        return f"{name}={value}"
    return f"{name}=true" if takes is not Takes.VALUE else f"{name}={_next(following, key)}"


def _pairs(words: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Yield the plain name and the value of each option; None where it has none."""
    remaining = iter(words)
    for word in remaining:
        key, equals, value = word.partition("=")
        if word.startswith("-") and not word.startswith("--"):
            mend = "Write t=01:00:00 instead of -t 01:00:00."
            raise UsageError("a dash and one letter are no option here", where=shown(word), mend=mend)
        name = plain(key)
        if equals:
            yield name, value
        elif word.startswith("--") and (name in OWN or find_option(name).takes is Takes.VALUE):
            yield name, _next(remaining, key)
        else:
            yield name, None


def _next(words: Iterator[str], key: str) -> str:
    value = next(words, None)
    if value is None:
        raise _lacks_value(key)
    return value


def _lacks_value(key: str) -> UsageError:
    return UsageError("an option of --slurm has no value", where=shown(key), mend=f"Write {shown(key)}=….")


def _checked(option: SbatchOption, name: str, value: str | None) -> Value | None:
    """Return the value to hand on; None for a flag that is turned off.

    Raises:
        UsageError: It is impossible.
    """
    if value is not None:
        check_text(name, value)
    if _is_switch(option, value):
        return None if value is not None and value.lower() in NO else True
    if option.takes is Takes.NOTHING:
        raise UsageError("a flag has no value", where=shown(f"{name}={value}"), mend=f"Write {name}, or {name}=false.")
    if value is None:
        raise _lacks_value(name)
    if bare(name) in WITH_UNITS:
        check_form(name, value, Kind.COUNT)
        return WITH_UNITS[bare(name)][1](value)
    check_form(name, value, option.kind)
    return value


def _is_switch(option: SbatchOption, value: str | None) -> bool:
    """Return whether a value only turns an option on or off, where that is possible."""
    if option.takes is Takes.VALUE:
        return False
    words = YES | NO
    if option.kind is Kind.NUMBER:  # nice=1
        words -= {"0", "1"}
    if option.name == "no-kill":  # no-kill=off is sbatch's own way
        words -= {"off"}
    return value is None or value.lower() in words


def _check_together(options: Mapping[str, Value]) -> None:
    for group in EXCLUSIVE:
        both = sorted(group & options.keys())
        if len(both) > 1:
            raise UsageError("these options exclude each other", where=", ".join(both), mend="Give one of them.")


def _own_value(name: str, value: str | None) -> str:
    if value is None:
        raise _lacks_value(name)
    check_text(name, value)
    return value


def _count(own: Mapping[str, str], name: str, *, least: int = 1) -> int | None:
    text = own.get(name)
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < least:
        raise UsageError(f"the value is not a whole number of at least {least}", where=f"{name}={shown(text)}")
    return int(text)
