"""Use tuned models: ``from mmsdpt.apis import Detector, Classifier``. See docs/use.md."""

from .classifier import Classifier
from .detector import Detector
from .loading import load_model
from .results import Classification, Detection, Detections, Results

__all__ = [
    "Classification",
    "Classifier",
    "Detection",
    "Detections",
    "Detector",
    "Results",
    "load_model",
]
