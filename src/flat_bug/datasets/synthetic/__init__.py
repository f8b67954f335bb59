"""Drawing of small arthropods, litter and backgrounds, with exact outlines; the entry is ``datasets.synth``."""
