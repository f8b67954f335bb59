"""The colours of what was found, missed and made up: the same in overlays and in the report."""

MARKS = {
    "truth": "#ffffff",
    "ignored": "#c9cfcc",
    "matched": "#1ad4ff",
    "spurious": "#db3dcc",
    "missed": "#ed4d00",
}
"""Kind → colour, told apart with any colour vision, and from yellow traps and white sheets.

Kinds are drawn in this order: what should be seen best comes last.
"""
