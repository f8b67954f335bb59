"""Bring the pixels of any image to 8-bit sRGB, lazily."""

from flat_bug.vips import pyvips

EIGHT_BITS = 255.0
WHITE = (255, 255, 255)
# The sRGB profile under its usual names, as ASCII (ICC 2) and as UTF-16 (ICC 4).
SRGB_NAMES = (b"sRGB", "sRGB".encode("utf-16-be"))


def to_srgb(image: pyvips.Image) -> pyvips.Image:
    """Return an image of three 8-bit sRGB bands.

    16-bit samples lose their low byte; other depths (float, 32-bit) are scaled by the least of 1, 255, 65535 and
    their own maximum that holds them, which reads such an image once. Transparency lies over white. Images of more
    than four bands show the first three.
    """
    image = _apply_profile(image)
    if image.interpretation == "cmyk" and image.format == "uchar":
        image = image.colourspace("srgb")
    alpha = image.hasalpha()
    image = _to_eight_bits(image)
    if image.bands <= 2:
        grey, rest = image[0], image[1:] if image.bands == 2 else None
        image = grey.bandjoin([grey, grey])
        image = image.bandjoin(rest) if rest is not None and alpha else image
    image = image[: 4 if alpha and image.bands == 4 else 3].copy(interpretation="srgb")
    return image.flatten(background=list(WHITE)) if image.bands == 4 else image


def _apply_profile(image: pyvips.Image) -> pyvips.Image:
    """Follow the embedded colour profile of a 3- or 4-ink image, unless it says sRGB anyway."""
    # Not by a list of all fields: those that a PNG brings along may have names that are no text.
    if image.get_typeof("icc-profile-data") == 0 or image.interpretation not in ("rgb", "srgb", "rgb16", "cmyk"):
        return image
    profile = image.get("icc-profile-data")
    if image.interpretation != "cmyk" and any(name in profile for name in SRGB_NAMES):
        return image
    try:
        return image.icc_transform("srgb", embedded=True, depth=16 if image.format == "ushort" else 8)
    except pyvips.Error:
        # A profile that is broken or of another colour space says nothing about the pixels: viewers ignore it too.
        return image


def _to_eight_bits(image: pyvips.Image) -> pyvips.Image:
    if image.format == "uchar":
        return image
    if image.interpretation in ("lab", "labs"):
        return image.colourspace("srgb")
    if image.format == "ushort":
        return (image >> 8).cast("uchar")
    top = image.max()
    full = next((limit for limit in (1.0, EIGHT_BITS, 65535.0) if top <= limit), top)
    return image.linear(EIGHT_BITS / full, 0).rint().cast("uchar")
