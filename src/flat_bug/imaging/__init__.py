"""Open any image lazily and read any region of it at any scale."""
