"""libvips, which says nothing by itself: what is wrong with an image is an error, and comes as one.

pyvips has a function in Python called for each of its messages, thousands in a run, from the middle of C and in any
thread. Where garbage is collected in there and libvips has something to say of that, GLib takes it for a loop and ends
the process; and what a signal handler raises in there, Ctrl-C for instance, is lost.
"""

import os

# Read when libvips begins: its warnings, all of which come before an error or of damage that is none, are not printed.
os.environ.setdefault("VIPS_WARNING", "1")

import pyvips

pyvips._remove_log_handler()

__all__ = ["pyvips"]
