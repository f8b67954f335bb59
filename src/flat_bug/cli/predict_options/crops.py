"""How the pictures of animals are cut."""

from dataclasses import dataclass
from typing import Any, Literal

from cyclopts import Group, Parameter


@Parameter(name="*", group=Group("Crops", sort_key=4))
@dataclass(frozen=True, kw_only=True)
class CropChoice:
    """How crops are cut.

    Attributes:
        crop_size: Side of a square in pixels, in which each animal is scaled to fit; by default crops have the size of
            their animals.
        crop_margin: Image pixels around the box of an animal; 5 by default.
        crop_background: What is around its outline; transparent by default. image: the image itself, not masked.
    """

    crop_size: int | None = None
    crop_margin: int | None = None
    crop_background: Literal["transparent", "white", "black", "image"] | None = None

    def chosen(self) -> dict[str, Any]:
        """Return what is chosen, by the names of settings."""
        given = {"size": self.crop_size, "margin": self.crop_margin, "background": self.crop_background}
        return {f"crop_{name}": value for name, value in given.items() if value is not None}
