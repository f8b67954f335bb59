"""A large image that can only be decoded from its start is laid out in tiles once, on the disk."""

import tempfile

from flat_bug.vips import pyvips

TILE = 256
"""Greatest side of the tiles of the temporary file, in pixels."""
READS_ANYWHERE = 1
"""Flag of a loader of libvips that decodes only what is looked at (VIPS_FOREIGN_PARTIAL)."""


def reads_anywhere(image: pyvips.Image, source: pyvips.Source) -> bool:
    """Return whether libvips decodes only what is looked at of an image: it does of tiled TIFFs, and of no JPEG.

    Args:
        image: As libvips opened it.
        source: What it opened, once more.
    """
    _, outputs = pyvips.Operation.call(image.get("vips-loader"), source, flags=True)
    return bool(outputs["flags"] & READS_ANYWHERE)


def unpack(image: pyvips.Image) -> pyvips.Image:
    """Return an image whose pixels lie in a temporary file, from which any region is read at once.

    libvips would do the same by itself, but row by row, and with the file mapped into memory, where all of it counts
    as memory of the process by and by. The file has no name: nothing is left behind, whatever ends the process.

    Args:
        image: Three bands of 8-bit sRGB, to be read from its start.

    Raises:
        pyvips.Error: The image is damaged, or the file does not fit on the disk.
        OSError: There is no folder for temporary files.
    """
    # libvips refuses tiles that are much larger than their image; a TIFF wants multiples of 16.
    wide, high = (min(TILE, -(-side // 16) * 16) for side in (image.width, image.height))
    with tempfile.TemporaryFile() as file:
        target = pyvips.Target.new_to_descriptor(file.fileno())
        image.tiffsave_target(target, tile=True, tile_width=wide, tile_height=high, bigtiff=True, keep="none")
        source = pyvips.Source.new_from_descriptor(file.fileno())
        return pyvips.Image.new_from_source(source, "", access="random", fail_on="error")
