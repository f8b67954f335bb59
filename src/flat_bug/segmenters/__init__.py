"""Networks behind one protocol: a batch of tiles in, box-local masks out."""
