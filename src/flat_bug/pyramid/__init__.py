"""Levels, tiles and stitching: pure geometry, no files and no network."""
