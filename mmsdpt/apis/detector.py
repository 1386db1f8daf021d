"""Detection of objects in images by their names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from mmengine.dataset import pseudo_collate

from mmsdpt.utils.errors import InputError

from .base import TunedModel, checked_positive
from .inputs import Source
from .results import Detections


class Detector(TunedModel):
    """A tuned GLIP (or Grounding DINO).

    ``Detector("tuner.safetensors")("photo.jpg").save("photo_with_boxes.jpg")``

    Args: see :class:`~mmsdpt.apis.base.TunedModel`.

    Attributes:
        classes: The training classes; used if a call gives none.
        model: The host, in eval mode.
    """

    hosts: ClassVar[tuple[str, ...]] = ("mmsdpt.GLIP", "mmsdpt.GroundingDINO")
    other: ClassVar[str] = "Classifier"
    loader: ClassVar[str] = "mmsdpt.LoadImageFromFile"
    _collate = staticmethod(pseudo_collate)

    def __call__(
        self,
        images: Any,
        *,
        classes: Sequence[str] | None = None,
        threshold: float = 0.3,
        chunked_size: int | None = None,
        batch_size: int | None = None,
        progress: bool = True,
    ) -> Any:
        """Detect objects.

        Args:
            images: A path, an array (H, W, 3) in RGB, or a PIL image, which is not rotated by its
                EXIF orientation as a file is; a folder, a list of these or a batch (N, H, W, 3); or
                a generator of images.
            classes: Names to detect, which need not be training classes.
            threshold: Minimum score of a result, from 0 to 1; the model itself drops scores below
                its ``test_cfg.score_thr``.
            chunked_size: Names per caption, for more names than fit into one; None: as
                ``test_cfg.chunked_size``, by default all.
            batch_size: Overrides the one of the constructor.
            progress: Whether to show a progress bar for a folder or list on a terminal.

        Returns:
            :class:`Detections` for one image; :class:`Results` for a folder or list; a generator
            for a generator. Images of a folder or list that cannot be read are reported and listed
            in ``skipped``.

        Raises:
            InputError: if a single image cannot be read, a number is out of range, no classes are
                known, or their caption is too long.
        """
        if not 0 <= threshold <= 1:
            raise InputError(f"threshold must be between 0 and 1, got {threshold!r}")
        if chunked_size is not None:
            checked_positive("chunked_size", chunked_size)
        names = self._names(classes)
        self.model.check_class_names(names, "this call", strict=False)

        def finish(source: Source, sample: Any) -> Detections:
            found = sample.pred_instances.cpu()
            height, width = sample.ori_shape
            result = Detections(
                source,
                width,
                height,
                found.bboxes.numpy().astype(np.float32).reshape(-1, 4),
                found.scores.numpy().astype(np.float32),
                found.labels.numpy().astype(np.int64),
                names,
            )
            return result.above(threshold)

        def run(batch: list[Any]) -> list[Any]:
            whole = self.model.test_cfg
            if chunked_size is not None:
                self.model.test_cfg = {**(whole or {}), "chunked_size": int(chunked_size)}
            try:
                return self._run(batch)
            finally:
                self.model.test_cfg = whole

        return self._predict(images, finish, self._of_classes(names), batch_size, progress, run)

    def _of_classes(self, names: Sequence[str]) -> dict[str, Any]:
        """What a sample says of the classes to detect."""
        found: dict[str, Any] = dict(text=names, custom_entities=True)
        if self.recipe.captions:
            found["caption_prompt"] = self.recipe.captions
        return found

    @staticmethod
    def _use_text_encoder(model: dict[str, Any], folder: str) -> None:
        model["language_model"]["name"] = folder
        if "lang_model_name" in model["bbox_head"]:
            model["bbox_head"]["lang_model_name"] = folder
