"""The names of flat-bug 1.x, so that what was written for them goes on working; ``flat_bug.Predictor`` is the new way.

What were tensors are arrays of numpy, on the processor. Boxes end where the outline ends, without 5 px around.
"""

from flat_bug.predictor.former import Predictor
from flat_bug.predictor.predictions import TensorPredictions

__all__ = ["Predictor", "TensorPredictions"]
