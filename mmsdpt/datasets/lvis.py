"""LVIS v1, whose images are annotated for some of its 1,203 classes only."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmdet.datasets import LVISV1Dataset

from mmsdpt.registry import DATASETS
from mmsdpt.utils.errors import InputError


@DATASETS.register_module()
class LVISDataset(LVISV1Dataset):
    """MMDetection's, with what the sampling of captions needs to know.

    LVIS is a federated data set (Gupta et al., CVPR 2019): of most classes nobody knows whether an
    image shows them. It names the classes that an image was seen not to show. Samples have, beside
    MMDetection's keys:

    * ``negative_labels``: int64 (n,), classes that the image is known not to show;
    * ``class_counts``: int64 (C,), images of the split that show each class.

    Class names are added when a sample is read: MMDetection keeps a copy of all 1,203 with each of
    100,000 images.
    """

    _PER_CLASS = ("text", "caption_prompt", "custom_entities")

    def load_data_list(self) -> list[dict]:
        """Images with their boxes and ``negative_labels``.

        Raises:
            InputError: if the file has another number of categories than there are classes.
        """
        data_list = super().load_data_list()
        if len(self.cat_ids) != len(self.metainfo["classes"]):  # labels count all categories
            raise InputError(
                f"{self.ann_file} has {len(self.cat_ids)} categories, and the dataset"
                f" {len(self.metainfo['classes'])} classes, so labels would take each other's"
                " names: set metainfo=dict(classes=...) to all categories of the file, in its order"
            )
        self._counts = np.zeros(len(self.metainfo["classes"]), dtype=np.int64)
        for info in data_list:
            self._counts[list({each["bbox_label"] for each in info["instances"]})] += 1
        return data_list

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
        """One image, with what is the same for all."""
        info = super().get_data_info(idx)
        info["class_counts"] = self._counts
        if self.return_classes:
            info.update(
                text=self.metainfo["classes"],
                caption_prompt=self.caption_prompt,
                custom_entities=True,
            )
        return info
