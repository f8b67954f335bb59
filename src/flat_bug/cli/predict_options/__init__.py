"""The options of ``fb predict``, one file for each group in its help."""
