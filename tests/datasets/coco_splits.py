"""Three splits of drawn images with COCO files, to be changed and checked as a run does."""

import json
from pathlib import Path

import numpy as np
from mmdet.datasets import CocoDataset
from PIL import Image

from mmsdpt.datasets.coco_checks import check_coco
from mmsdpt.datasets.coco_report import CocoReport
from mmsdpt.engine.data_checks import prepare_data

CLASSES = ("circle", "square")


def picture(path: Path, size=(96, 80), **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = sum(str(path).encode())
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)


def coco(split: str, images: int = 2) -> dict:
    """Two boxes on every image, one of each class."""
    content = dict(
        images=[
            dict(id=n + 1, file_name=f"{split}_{n}.jpg", width=96, height=80) for n in range(images)
        ],
        categories=[dict(id=k, name=name) for k, name in enumerate(CLASSES, 1)],
        annotations=[],
    )
    for n in range(images):
        for k in (1, 2):
            box = [10 * k, 5 + n, 30, 20]
            entry = dict(id=2 * n + k, image_id=n + 1, category_id=k, bbox=box)
            content["annotations"].append(dict(entry, area=600, iscrowd=0))
    return content


class Data:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.splits = {split: coco(split) for split in ("train", "val", "test")}
        for split, content in self.splits.items():
            for image in content["images"]:
                picture(root / "images" / split / image["file_name"])

    def save(self) -> None:
        (self.root / "annotations").mkdir(exist_ok=True)
        for split, content in self.splits.items():
            (self.root / "annotations" / f"{split}.json").write_text(json.dumps(content))

    def each(self, change) -> None:
        """Change every annotation of every split, and write the files."""
        for content in self.splits.values():
            content["annotations"] = [
                entry for entry in map(change, content["annotations"]) if entry is not None
            ]
        self.save()

    def config(self, split: str, classes=CLASSES) -> dict:
        return dict(
            type="CocoDataset",
            data_root=f"{self.root}/",
            ann_file=f"annotations/{split}.json",
            data_prefix=dict(img=f"images/{split}/"),
            metainfo=dict(classes=classes),
        )

    def prepare(self, classes=CLASSES, optional=("test",)):
        """Datasets and the metric's file as a run would get them."""
        loaders = {s: dict(dataset=dict(dataset=self.config(s, classes))) for s in self.splits}
        metrics = {
            s: dict(type="CocoMetric", ann_file=f"{self.root}/annotations/{s}.json")
            for s in self.splits
        }
        prepare_data(loaders, metrics, self.root / "work", optional)
        self.metrics = metrics
        datasets = {}
        for split, loader in loaders.items():
            settings = {k: v for k, v in loader["dataset"]["dataset"].items() if k != "type"}
            datasets[split] = CocoDataset(**settings, pipeline=[], test_mode=True)
        return datasets

    def report(self, split: str = "train") -> CocoReport:
        """What a check of a split's file says."""
        return check_coco(self.root / "annotations" / f"{split}.json", self.root / "images" / split)


def labelled(dataset) -> list[list[tuple]]:
    return [
        sorted((i["bbox_label"], tuple(i["bbox"])) for i in dataset.get_data_info(n)["instances"])
        for n in range(len(dataset))
    ]


EXPECTED = [[(0, (10, 5 + n, 40, 25 + n)), (1, (20, 5 + n, 50, 25 + n))] for n in range(2)]
