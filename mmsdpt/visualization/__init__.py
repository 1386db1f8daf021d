"""Pictures of detections matched with the ground truth, of scores, and contact sheets."""

from .boxes import Boxes, BoxMatches, match_boxes
from .contact_sheet import Entry, contact_sheet
from .single import draw_detections, draw_scores

__all__ = [
    "Boxes",
    "Entry",
    "BoxMatches",
    "contact_sheet",
    "draw_detections",
    "draw_scores",
    "match_boxes",
]
