"""The JSON of one image as flat-bug 1.x writes it."""

from typing import Any


def legacy(**changes: Any) -> dict[str, Any]:
    """Return what flat-bug 1.x writes, its masks half as large as the image."""
    values = {
        "boxes": [[0, 0, 20, 20], [30, 5, 40, 12]],
        "contours": [[[1, 9, 9, 1], [1, 1, 9, 9]], [[16, 18], [3, 5]]],
        "confs": [0.9, 0.4],
        "classes": [1.0, 1.0],
        "scales": [1.0, 0.5],
        "areas": [64, 0],
        "image_path": "folder/a.jpg",
        "image_width": 100,
        "image_height": 60,
        "mask_width": 50,
        "mask_height": 30,
        "identifier": ["some-id"],
    }
    return values | changes
