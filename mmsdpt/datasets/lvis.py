"""LVIS v1, whose images are annotated for only some of its 1,203 classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from lvis import LVIS
from mmdet.datasets import LVISV1Dataset
from mmengine.fileio import get_local_path

from mmsdpt.registry import DATASETS
from mmsdpt.utils.errors import InputError


@DATASETS.register_module()
class LVISDataset(LVISV1Dataset):
    """MMDetection's dataset, with additional keys for caption sampling.

    LVIS is a federated dataset (Gupta et al., CVPR 2019): for most classes it is unknown whether an
    image shows them. It lists the classes that were verified to be absent. Samples have, besides
    MMDetection's keys:

    * ``negative_labels``: int64 (n,), classes known to be absent from the image;
    * ``class_counts``: int64 (C,), number of images of the split with each class.

    Class names are added when a sample is read, as MMDetection would keep a copy of all 1,203 with
    each of 100,000 images.
    """

    _PER_CLASS = ("text", "caption_prompt", "custom_entities")

    def load_data_list(self) -> list[dict]:
        """Images with their boxes and ``negative_labels``. MMDetection's takes the name of an
        image from ``coco_url`` alone.

        Raises:
            InputError: if the file has another number of categories than there are classes, ids
                that repeat, or images without a name.
        """
        with get_local_path(self.ann_file, backend_args=self.backend_args) as path:
            truth = LVIS(path)
        if len(truth.anns) != len(truth.dataset["annotations"]):
            raise InputError(f"{self.ann_file}: annotation ids are repeated; they must be unique")
        self.cat_ids = truth.get_cat_ids()
        self.cat2label = {number: label for label, number in enumerate(self.cat_ids)}
        self.cat_img_map = truth.cat_img_map
        data_list = []
        for number, image in truth.imgs.items():
            image = dict(image, img_id=number, file_name=self._file_name(image))
            raw = dict(raw_img_info=image, raw_ann_info=truth.img_ann_map[number])
            data_list.append(self.parse_data_info(raw))
        if len(self.cat_ids) != len(self.metainfo["classes"]):  # labels count all categories
            raise InputError(
                f"{self.ann_file} has {len(self.cat_ids)} categories, but the dataset has"
                f" {len(self.metainfo['classes'])} classes, so labels would get wrong names: set"
                " metainfo=dict(classes=...) to all categories of the file, in its order"
            )
        self._counts = np.zeros(len(self.metainfo["classes"]), dtype=np.int64)
        for info in data_list:
            self._counts[list({each["bbox_label"] for each in info["instances"]})] += 1
        return data_list

    def _file_name(self, image: Mapping[str, Any]) -> str:
        """LVIS names images by their COCO URL; your own files use ``file_name``."""
        _, coco, name = (image.get("coco_url") or "").partition("images.cocodataset.org/")
        if not coco and not image.get("file_name"):
            raise InputError(
                f"{self.ann_file}: the image with id {image['id']} has neither coco_url nor"
                " file_name"
            )
        return name if coco else image["file_name"]

    def parse_data_info(self, raw_data_info: dict) -> dict:
        """As MMDetection's, without class names, with ``negative_labels``."""
        info: dict[str, Any] = super().parse_data_info(raw_data_info)
        for key in self._PER_CLASS:
            info.pop(key, None)
        known = raw_data_info["raw_img_info"].get("neg_category_ids", ())
        info["negative_labels"] = np.array(
            [self.cat2label[each] for each in known if each in self.cat2label], dtype=np.int64
        )
        return info

    def get_data_info(self, idx: int) -> dict:
        """One image, with the keys that all images share."""
        info = super().get_data_info(idx)
        info["class_counts"] = self._counts
        if self.return_classes:
            info.update(
                text=self.metainfo["classes"],
                caption_prompt=self.caption_prompt,
                custom_entities=True,
            )
        return info
