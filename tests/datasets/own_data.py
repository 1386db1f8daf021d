"""What a dataset of one's own holds."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from mmsdpt.datasets.classification import ClassificationData


def paths(dataset: ClassificationData) -> list[str]:
    root = f"{dataset.source.root}/"
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    return [info["img_path"].removeprefix(root) for info in infos]


def label_counts(dataset: ClassificationData) -> dict[int, int]:
    return Counter(dataset.get_data_info(i)["gt_label"] for i in range(len(dataset)))


def load(name: str, root: Path, **settings) -> dict[str, ClassificationData]:
    return {
        split: ClassificationData(name, str(root), split, **settings)
        for split in ("train", "val", "test")
    }
