"""Convert common detection formats to COCO JSON. Skipped images and boxes are counted and named."""

from mmsdpt.utils.errors import InputError as ConverterError

from .coco_export import convert_coco
from .common import ProblemsFound
from .report import ConversionReport
from .split import parse_split
from .voc import convert_voc
from .yolo import convert_yolo

__all__ = [
    "ConversionReport",
    "ConverterError",
    "ProblemsFound",
    "convert_coco",
    "convert_voc",
    "convert_yolo",
    "parse_split",
]
