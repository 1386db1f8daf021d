"""Pictures for people: detections beside the truth, judged box by box."""

from .judge import Boxes, Judgement, judge
from .panels import ComparisonPicture

__all__ = ["Boxes", "ComparisonPicture", "Judgement", "judge"]
