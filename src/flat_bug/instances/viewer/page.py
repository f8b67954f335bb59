"""The page of the viewer, and the list of images that it opens with."""

from collections.abc import Sequence
from dataclasses import asdict
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from flat_bug.files import atomic_path, printable, write_text
from flat_bug.instances.viewer.image import Entry, script_of

ASSETS = "assets"
LIST = "images.js"
SCRIPTS = (
    "vendor/openseadragon.min.js",
    "data.js",
    "elements.js",
    "outlines.js",
    "stage.js",
    "range.js",
    "filters.js",
    "table.js",
    "details.js",
    "gallery.js",
    "inspector.js",
    "app.js",
)
"""In the order in which they are loaded."""


def write_index(viewer: Path, entries: Sequence[Entry], *, title: str, version: str) -> Path:
    """Write the page that lists images, and the scripts and styles that it needs.

    Args:
        viewer: Folder of the viewer.
        entries: What ``write_image`` returned.
        title: What all images together are called.
        version: Of flat-bug.

    Returns:
        The page to open.

    Raises:
        OutputError: The folder cannot be written to or the disk is full.
    """
    source = files("flat_bug.instances.viewer") / ASSETS
    for name in ("viewer.css", "vendor/openseadragon.LICENSE.txt", *SCRIPTS):
        _copy(source / name, viewer / ASSETS / name)
    listed = {"title": printable(title), "images": [asdict(entry) for entry in entries]}
    write_text(viewer / LIST, script_of("list", listed))
    page = viewer / "index.html"
    write_text(page, _environment().get_template("index.html.j2").render(scripts=SCRIPTS, version=version))
    return page


def _copy(source: Traversable, target: Path) -> None:
    content = source.read_bytes()
    if not (target.is_file() and target.read_bytes() == content):
        with atomic_path(target) as temporary:
            temporary.write_bytes(content)


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("flat_bug.instances.viewer"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
