"""Pipeline transforms."""

from __future__ import annotations

import mmcv
import mmengine.fileio as fileio
import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms import LoadImageFromFile as MMCVLoadImageFromFile

from mmsdpt.registry import TRANSFORMS
from mmsdpt.utils.errors import InputError

from .image_files import UnreadableImage, is_deep, open_image, read_bytes, to_rgb


@TRANSFORMS.register_module()
class LoadImageFromFile(MMCVLoadImageFromFile):
    """MMCV's, with the same pixels for every image of 8 bits; what it would load as black or white
    is scaled, and what it cannot load ends in one sentence.

    Pixels of 16 bits or floating point become grey levels, see
    :func:`mmsdpt.datasets.image_files.to_rgb`. :class:`mmsdpt.TunerRunner` puts it in the place of
    MMCV's in every pipeline.

    Raises:
        InputError: if the image is missing, is no regular file, or cannot be decoded.
    """

    def transform(self, results: dict) -> dict:
        """Add ``img``, ``img_shape`` and ``ori_shape``."""
        path = results["img_path"]
        try:
            remote = self.backend_args is not None or "://" in str(path)
            content = (
                fileio.get(path, backend_args=self.backend_args) if remote else read_bytes(path)
            )
            with open_image(content) as image:
                if is_deep(image):
                    pixels = np.asarray(to_rgb(image))[..., ::-1]
                else:
                    pixels = mmcv.imfrombytes(
                        content, flag=self.color_type, backend=self.imdecode_backend
                    )
            if pixels is None:
                raise UnreadableImage("it cannot be decoded")
        except Exception as error:  # decoders raise many kinds; each means the same here
            if self.ignore_empty:
                return None  # type: ignore[return-value]
            raise InputError(
                f"the image {path} cannot be used: {error}; replace the file or take it out of the"
                " annotations"
            ) from error
        results["img"] = pixels.astype(np.float32) if self.to_float32 else pixels
        results["img_shape"] = results["ori_shape"] = pixels.shape[:2]
        return results


@TRANSFORMS.register_module()
class SampleCaptionClasses(BaseTransform):
    """Shorten an image's caption to its own classes and a random sample of the others.

    For datasets whose class list does not fit into one caption (LVIS: 1,203 classes). All classes
    of the image are kept, absent ones fill up to ``max_classes`` as negatives, the order is random,
    and the labels follow. GLIP trains on detection data this way (Li et al. 2022, section 4).

    Required keys: ``text`` (tuple of class names), ``gt_bboxes_labels`` and ``gt_bboxes``. Modified
    keys: ``text``, ``custom_entities`` and ``gt_bboxes_labels``. Where one image shows more than
    ``max_classes`` classes, a random choice of them is kept, and the boxes, ignore flags and masks
    of the others leave with their names: a label without its name in the caption has no meaning.

    Args:
        max_classes: Most classes in a caption. 40 LVIS names stay below 256 tokens in all but rare
            draws; a caption that is still too long is an error in training, not a silent cut.
    """

    def __init__(self, max_classes: int = 40) -> None:
        if max_classes < 1:
            raise ValueError(f"max_classes must be at least 1, got {max_classes}")
        self.max_classes = max_classes

    def transform(self, results: dict) -> dict:
        classes = tuple(results["text"])
        labels = np.asarray(results["gt_bboxes_labels"])
        present = np.random.permutation(np.unique(labels))[: self.max_classes]
        absent = np.setdiff1d(np.arange(len(classes)), np.unique(labels))
        room = min(self.max_classes - len(present), len(absent))
        negatives = np.random.choice(absent, room, replace=False) if room > 0 else absent[:0]
        chosen = np.random.permutation(np.concatenate([present, negatives]).astype(np.int64))
        position = np.full(len(classes), -1, dtype=np.int64)
        position[chosen] = np.arange(len(chosen))
        kept = position[labels] >= 0
        if not kept.all():
            for key in ("gt_bboxes", "gt_ignore_flags", "gt_masks"):
                if key in results:
                    results[key] = results[key][kept]
        results["gt_bboxes_labels"] = position[labels[kept]]
        results["text"] = tuple(classes[i] for i in chosen)
        results["custom_entities"] = True
        return results

    def __repr__(self) -> str:
        return f"{type(self).__name__}(max_classes={self.max_classes})"
