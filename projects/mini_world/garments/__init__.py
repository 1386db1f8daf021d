"""Drawn clothes: parametrised outlines, fabrics, the surfaces they lie on, and pictures of them."""

from .fabrics import FABRIC_COLOURS, FABRICS
from .kinds import GARMENTS
from .picture import GarmentPicture, draw_garment

__all__ = ["FABRICS", "FABRIC_COLOURS", "GARMENTS", "GarmentPicture", "draw_garment"]
