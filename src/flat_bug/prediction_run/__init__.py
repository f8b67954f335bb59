"""Predict many images into one output folder, and go on there after an interruption."""

from flat_bug.prediction_run.inputs import DEFAULT_PATTERN, InputImage, find_images
from flat_bug.prediction_run.layout import OutputSettings
from flat_bug.prediction_run.run import predict_images
from flat_bug.prediction_run.summary import ImageRow, PredictionRun

__all__ = [
    "DEFAULT_PATTERN",
    "ImageRow",
    "InputImage",
    "OutputSettings",
    "PredictionRun",
    "find_images",
    "predict_images",
]
