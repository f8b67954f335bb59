"""One folder in which predictions are looked at in any browser: deep-zoom images, outlines, filters, a table.

It works from a disk, without a server or a network, and is written again only where it is no longer true.
"""

from flat_bug.instances.viewer.folder import write_viewer
from flat_bug.instances.viewer.image import Viewed, Zoomable

__all__ = ["Viewed", "Zoomable", "write_viewer"]
