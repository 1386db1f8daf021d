"""Image classification data for CLIP: the benchmarks of prompt learning and your own data.

Importing this package registers ``mmsdpt.ClassificationData`` and ``mmsdpt.LoadPillowImage``.
"""

from mmsdpt.utils.templates import TEMPLATES, default_template

from .benchmarks import BENCHMARKS, Benchmark
from .dataset import ClassificationData
from .items import Item, read_split
from .subsets import sample_few_shot, sample_shots, select_classes
from .transforms import LoadPillowImage

__all__ = [
    "BENCHMARKS",
    "TEMPLATES",
    "Benchmark",
    "ClassificationData",
    "Item",
    "LoadPillowImage",
    "default_template",
    "read_split",
    "sample_few_shot",
    "sample_shots",
    "select_classes",
]
