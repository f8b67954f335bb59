"""Scales of many images from a table that somebody wrote."""

import csv
import io
from collections import Counter
from pathlib import Path

from flat_bug.errors import FlatBugError, UsageError
from flat_bug.measurement.scale import Scale, scale_from, scale_of_px_per_mm

UNITS = ("px_per_mm", "mm_per_px")


def read_scales(path: Path) -> dict[str, Scale]:
    """Return the scale of each image that a CSV names.

    It has a column ``image`` (a file name, or a path below the input folder) and either ``px_per_mm`` or
    ``mm_per_px``; ``px_per_mm_sd`` or ``mm_per_px_sd`` with the standard deviation may be there too. Fields are
    separated by commas, semicolons or tabs.

    Raises:
        UsageError: It cannot be read, a column is missing or there are both, an image stands twice, or a number is
            impossible; the error says in which line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the table of scales cannot be read: {error}", where=path) from error
    heading = text.partition("\n")[0]
    delimiter = max(",;\t", key=heading.count)
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restkey="more", restval="")
    columns = [name.strip() for name in rows.fieldnames or []]
    unit = _unit(columns, path)
    rows.fieldnames = columns
    found: dict[str, Scale] = {}
    for row in rows:
        where = f"{path}, line {rows.line_num}"
        name = row["image"].strip()
        if name in found:
            raise UsageError(f"the image {name} stands there twice", where=where, mend="Leave one line.")
        found[name] = _scale(row[unit], row.get(f"{unit}_sd", ""), unit, where)
    return found


def scales_of(file_names: list[str], scales: dict[str, Scale], path: Path) -> tuple[list[Scale | None], list[str]]:
    """Return the scale of each image, by its path or, where that is not named, by the last part of it.

    Args:
        file_names: Paths of images below the input folder.
        scales: From ``read_scales``.
        path: The table, for messages.

    Returns:
        The scales, and the names in the table that no image has.

    Raises:
        UsageError: A name may mean several images.
    """
    keys = [name if name in scales else name.rpartition("/")[2] for name in file_names]
    twice = [key for key, count in Counter(keys).items() if count > 1 and key in scales]
    if twice:
        raise UsageError(
            f"several images are called {twice[0]}",
            where=path,
            mend="Name each with its folder, as below the input folder: tray1/card.jpg",
        )
    return [scales.get(key) for key in keys], sorted(scales.keys() - set(keys))


def _unit(columns: list[str], path: Path) -> str:
    units = [name for name in UNITS if name in columns]
    if "image" not in columns or len(units) != 1:
        both = "both px_per_mm and mm_per_px" if len(units) == 2 else "no column image, or none of px_per_mm, mm_per_px"
        raise UsageError(
            f"the table of scales has {both}",
            where=path,
            mend=f"Its first line must be image,px_per_mm or image,mm_per_px; it is {','.join(columns) or 'empty'}.",
        )
    return units[0]


def _scale(value: str, sd: str, unit: str, where: str) -> Scale:
    try:
        number, uncertainty = float(value), float(sd) if sd.strip() else 0.0
    except ValueError as error:
        raise UsageError(f"{value or sd!r} is not a number", where=where, mend=f"Give {unit} as in 12.5.") from error
    try:
        if unit == "px_per_mm":
            return scale_of_px_per_mm(number, uncertainty, where)
        return scale_from(number, uncertainty / number if number else 0.0, where)
    except FlatBugError as error:
        raise UsageError(error.what, where=where, mend=error.mend) from error
