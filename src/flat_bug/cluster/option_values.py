"""Values of sbatch's options: what they must look like, what they mean, and how a batch script holds them."""

import re
import unicodedata
from typing import Literal

from flat_bug.cluster.option_names import shown
from flat_bug.cluster.sbatch_names import Kind
from flat_bug.errors import UsageError

Value = str | Literal[True]
"""Value of an option of sbatch; true for a flag."""

_FORMS: dict[Kind, tuple[re.Pattern[str], str]] = {
    Kind.COUNT: (re.compile(r"0*[1-9][0-9]*"), "a whole number of at least 1"),
    Kind.NUMBER: (re.compile(r"[+-]?[0-9]+[SLsl]?"), "a whole number"),
    Kind.MEMORY: (re.compile(r"[0-9]+([kmgt]b?)?", re.IGNORECASE), "such as 32G, 32GB or 500M; a bare number is in MB"),
    Kind.TIME: (
        re.compile(r"[0-9]+(:[0-9]+){0,2}|[0-9]+-[0-9]+(:[0-9]+){0,2}|-1|infinite|unlimited", re.IGNORECASE),
        "such as 01:00:00, 1-12:00:00 or 90, which are minutes",
    ),
}
_NEEDS_NO_QUOTES = re.compile(r"[A-Za-z0-9@%+=:,./_-]+")
MEGABYTES = {"K": 1 / 1024, "": 1.0, "M": 1.0, "G": 1024.0, "T": 1024.0**2}


def check_text(name: str, value: str) -> None:
    """Check that a value can stand in the header of a batch script.

    Raises:
        UsageError: It is empty, or would leave its line.
    """
    if not value:
        mend = "If it began as a variable, that variable is not set here."
        raise UsageError("the value of an option is empty", where=f"{name}=", mend=mend)
    # A line break would end the line of the header that holds the value, and begin one of its own.
    if any(unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in value):
        raise UsageError(
            "the value of an option holds a line break or another character that is no text",
            where=f"{name}={shown(value)}",
            mend="Leave that character out.",
        )


def check_form(name: str, value: str, kind: Kind) -> None:
    """Check that a value looks as its kind does.

    Raises:
        UsageError: It does not.
    """
    pattern, form = _FORMS.get(kind, (None, ""))
    if pattern is not None and not pattern.fullmatch(value):
        raise UsageError(f"the value is not {form}", where=shown(f"{name}={value}"), mend=f"Correct {name}.")


def header_line(name: str, value: Value) -> str:
    """Return the line of a batch script that sets an option; sbatch reads back exactly the value."""
    if value is True:
        return f"#SBATCH --{name}"
    if _NEEDS_NO_QUOTES.fullmatch(value):
        return f"#SBATCH --{name}={value}"
    # In quotes a backslash takes its meaning from the next character, and # begins no comment.
    escaped = re.sub(r'(["\\])', r"\\\1", value)
    return f'#SBATCH --{name}="{escaped}"'


def seconds_of_time(text: str) -> float:
    """Return the seconds of a time limit as sbatch writes it; infinite where it means none."""
    if text.lower() in {"-1", "0", "infinite", "unlimited"}:
        return float("inf")
    days, dash, rest = text.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if dash:  # days-hours, and more
        hours, minutes, seconds = (*parts, 0, 0)[:3]
        return ((int(days) * 24 + hours) * 60 + minutes) * 60 + seconds
    if len(parts) == 3:
        return (parts[0] * 60 + parts[1]) * 60 + parts[2]
    return parts[0] * 60 + sum(parts[1:])  # minutes, or minutes:seconds


def megabytes_of(text: str) -> float:
    """Return the MiB of an amount of memory as sbatch writes it."""
    number = text.rstrip("KMGTBkmgtb")
    return int(number) * MEGABYTES[text[len(number) :][:1].upper()]
