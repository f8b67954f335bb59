"""The table of instances and one module per format that it is written to or read from."""
