"""Pipeline transforms."""

from __future__ import annotations

from functools import cached_property

import mmcv
import mmengine.fileio as fileio
import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms import LoadImageFromFile as MMCVLoadImageFromFile
from mmdet.models.detectors.glip import clean_label_name

from mmsdpt.registry import TRANSFORMS
from mmsdpt.utils.bert_tokenizer import BertTokenizer
from mmsdpt.utils.errors import InputError
from mmsdpt.utils.language_models import language_model_folder

from .image_files import (
    UnreadableImage,
    exif_orientation,
    is_deep,
    open_image,
    read_bytes,
    rotated,
    to_rgb,
)


@TRANSFORMS.register_module()
class LoadImageFromFile(MMCVLoadImageFromFile):
    """MMCV's loader, with identical pixels for 8-bit images; images that it would load as black or
    white are scaled, and unreadable ones raise an error in one sentence.

    16-bit and floating-point pixels become grey levels, see
    :func:`mmsdpt.datasets.image_files.to_rgb`. :class:`mmsdpt.TunerRunner` uses it instead of
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
                    flag, orientation = self.color_type, 1
                    if self.imdecode_backend == "pillow" and flag in ("color", "grayscale"):
                        flag += "_ignore_orientation"  # MMCV fails if other EXIF tags are damaged
                        if image.format != "TIFF":  # Pillow itself rotates this format
                            orientation = exif_orientation(image)
                    pixels = mmcv.imfrombytes(content, flag=flag, backend=self.imdecode_backend)
                    if pixels is not None:
                        pixels = rotated(pixels, orientation)
            if pixels is None:
                raise UnreadableImage("it cannot be decoded")
        except Exception as error:  # decoders raise many kinds of errors
            if self.ignore_empty:
                return None  # type: ignore[return-value]
            raise InputError(
                f"the image {path} cannot be used: {error}; replace the file or leave it out"
            ) from error
        results["img"] = pixels.astype(np.float32) if self.to_float32 else pixels
        results["img_shape"] = results["ori_shape"] = pixels.shape[:2]
        return results


@TRANSFORMS.register_module()
class SampleCaptionClasses(BaseTransform):
    """Shorten an image's caption to its own classes and a random sample of the others.

    For datasets whose class list does not fit into one caption (LVIS: 1,203 classes). All classes
    of the image are kept, absent ones are added as negatives, the order is random, and the labels
    are remapped. GLIP trains on detection data this way (Li et al. 2022, section 4).

    Negatives are first the classes known to be absent (``negative_labels``, of federated data),
    then others, sampled in proportion to the square root of the number of images that show them
    (``class_counts``), as in Zhou et al. (2021, "Probabilistic two-stage detection") for LVIS: a
    rare class is seldom a negative. Without these keys all absent classes are equally likely.

    Required keys: ``text`` (tuple of class names), ``gt_bboxes_labels`` and ``gt_bboxes``. Modified
    keys: ``text``, ``custom_entities`` and ``gt_bboxes_labels``. If an image has more classes than
    fit, a random selection is kept, and the boxes, ignore flags and masks of the others are
    removed, as a label without its name in the caption has no meaning.

    Args:
        max_classes: Maximum number of classes in a caption.
        max_tokens: Maximum number of tokens in a caption, with its two special ones.
        language_model: Name or folder of the BERT whose tokenizer counts tokens, as
            ``lang_model_name`` in a config. None: tokens are not counted, and a caption that is too
            long is an error in training.
    """

    def __init__(
        self, max_classes: int = 40, max_tokens: int = 256, language_model: str | None = None
    ) -> None:
        if max_classes < 1:
            raise ValueError(f"max_classes must be at least 1, got {max_classes}")
        self.max_classes, self.max_tokens = max_classes, max_tokens
        self.language_model = language_model
        self._costs: dict[str, int] = {}

    @cached_property
    def _tokenizer(self) -> BertTokenizer:
        return BertTokenizer(language_model_folder(self.language_model))

    def _cost(self, name: str) -> int:
        """Number of tokens of a name in a caption, with the following dot."""
        if self.language_model is None:
            return 0
        if name not in self._costs:
            self._costs[name] = len(self._tokenizer.tokenize(clean_label_name(name))) + 1
        return self._costs[name]

    def _fitting(self, labels: np.ndarray, classes: tuple[str, ...], chosen: list[int]) -> None:
        """Append labels to ``chosen`` in their order, as long as there is room."""
        room = self.max_tokens - 2 - sum(self._cost(classes[label]) for label in chosen)
        for label in labels:
            room -= self._cost(classes[label])
            if len(chosen) == self.max_classes or room < 0:
                return
            chosen.append(int(label))

    def _negatives(self, results: dict, count: int, present: np.ndarray) -> np.ndarray:
        """All absent classes, in sampling order."""
        known = np.setdiff1d(results.get("negative_labels", present[:0]), present)
        others = np.setdiff1d(np.arange(count), np.concatenate([present, known]))
        counts = results.get("class_counts")
        # Sorting by these keys is weighted sampling without replacement (Efraimidis and Spirakis
        # 2006); classes without images come last.
        weights = np.ones(len(others)) if counts is None else np.sqrt(counts[others])
        with np.errstate(divide="ignore"):
            keys = np.log(np.random.random(len(others))) / weights
        return np.concatenate([np.random.permutation(known), others[np.argsort(-keys)]])

    def transform(self, results: dict) -> dict:
        """Sample the classes of one image; see the class."""
        classes = tuple(results["text"])
        labels = np.asarray(results["gt_bboxes_labels"])
        present = np.unique(labels)
        taken: list[int] = []
        self._fitting(np.random.permutation(present), classes, taken)
        self._fitting(self._negatives(results, len(classes), present), classes, taken)
        chosen = np.random.permutation(np.array(taken, dtype=np.int64))
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
        return (
            f"{type(self).__name__}(max_classes={self.max_classes}, max_tokens={self.max_tokens},"
            f" language_model={self.language_model!r})"
        )
