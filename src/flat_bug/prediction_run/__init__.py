"""Predict many images into one output folder, and go on there after an interruption."""

from flat_bug.prediction_run.crew import Crew, devices_of_jobs, predictor_of
from flat_bug.prediction_run.inputs import WITH_VIDEOS, InputImage, find_images
from flat_bug.prediction_run.layout import OutputSettings
from flat_bug.prediction_run.parts import Every
from flat_bug.prediction_run.run import predict_images
from flat_bug.prediction_run.summary import ImageRow, PredictionRun
from flat_bug.prediction_run.worker import Recipe

__all__ = [
    "WITH_VIDEOS",
    "Crew",
    "Every",
    "ImageRow",
    "InputImage",
    "OutputSettings",
    "PredictionRun",
    "Recipe",
    "devices_of_jobs",
    "find_images",
    "predict_images",
    "predictor_of",
]
