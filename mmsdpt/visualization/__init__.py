"""Pictures for people: detections beside the truth, judged box by box, scores, contact sheets."""

from .contact_sheet import Entry, contact_sheet
from .judge import Boxes, Judgement, judge
from .panels import ComparisonPicture
from .single import draw_detections, draw_scores

__all__ = [
    "Boxes",
    "ComparisonPicture",
    "Entry",
    "Judgement",
    "contact_sheet",
    "draw_detections",
    "draw_scores",
    "judge",
]
