"""What the task that scores one model takes and leaves, without what it needs to do it."""

from pydantic import Field, JsonValue

from flat_bug.config import PredictSettings
from flat_bug.evaluation.settings import EvaluationSettings
from flat_bug.experiments.node_path import NodePath
from flat_bug.experiments.plan import Frozen
from flat_bug.segmenters.base import ModelCard

PREDICTIONS = "predictions"
EVALUATION = "evaluation"
CALL = "score-model"


class ScoreModel(Frozen):
    """The arguments of the task; every path is text of a ``NodePath``.

    Attributes:
        model: Name of the model, for tables.
        weights: Weight file.
        card: Its card, if it has one.
        images: Folder of images.
        ground_truth: COCO file that annotates them.
        config: Settings of the prediction, in YAML.
        tmp: Folder for the work until it is done; by default the attempt folder.
        input_pattern: Regular expression for the names of images.
        device: Where the network runs.
        trust_weights: Open a ``.pt`` file, which can run any code.
        store_all: Keep crops, overviews and the overlays of all images.
        predict: Settings of the prediction that take precedence over ``config``.
        evaluate: Settings of the evaluation.
    """

    model: str
    weights: str
    card: str | None = None
    images: str
    ground_truth: str
    config: str | None = None
    tmp: str | None = None
    input_pattern: str | None = None
    device: str = "auto"
    trust_weights: bool = False
    store_all: bool = False
    predict: dict[str, JsonValue] = Field(default_factory=dict)
    evaluate: dict[str, JsonValue] = Field(default_factory=dict)

    def predict_settings(self) -> PredictSettings:
        """Return the settings of the prediction.

        Raises:
            ConfigError: The configuration cannot be read or holds an impossible value.
        """
        base = PredictSettings.from_yaml(NodePath(self.config).resolve()) if self.config else PredictSettings()
        return PredictSettings.from_mapping({**base.model_dump(), **self.predict}, where="the command line")

    def evaluation_settings(self) -> EvaluationSettings:
        """Return the settings of the evaluation.

        Raises:
            ConfigError: A value is impossible.
        """
        # The report has pictures of its own, unless only the node has the images.
        overlays = "all" if self.store_all else "extremes"
        return EvaluationSettings.from_mapping({"overlays": overlays, **self.evaluate}, where="the command line")


class Scored(Frozen):
    """The figures that the task leaves in its record.

    Attributes:
        megapixels: Of the images that were predicted in this attempt.
        predict_seconds: Time for them, without loading the model.
        card: The card of the weights.
        score_threshold: What was found was kept above this; absent in records of older versions.
    """

    megapixels: float
    predict_seconds: float
    card: ModelCard
    score_threshold: float | None = None
