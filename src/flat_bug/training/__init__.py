"""Train a segmenter with ultralytics and export it; needs the extra `train`."""
