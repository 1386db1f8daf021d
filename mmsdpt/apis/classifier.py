"""Classification of images into a list of words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from mmengine.dataset import default_collate

from mmsdpt.utils.class_names import as_written, check_class_names
from mmsdpt.utils.errors import InputError, listed, printable
from mmsdpt.utils.templates import DEFAULT_TEMPLATE, checked_templates

from .base import TunedModel
from .inputs import Source, is_single
from .recipe import in_scope
from .results import Classification, Results


class Classifier(TunedModel):
    """A tuned CLIP, or CLIP itself with any words: ``Classifier(config="configs/...py")``.

    Args: see :class:`~mmsdpt.apis.base.TunedModel`.

    Attributes:
        classes: The training classes; used if a call gives none.
        model: The host, in eval mode.
    """

    hosts: ClassVar[tuple[str, ...]] = ("mmsdpt.CLIP",)
    other: ClassVar[str] = "Detector"
    loader: ClassVar[str] = "mmsdpt.LoadPillowImage"
    # CLIP's data preprocessor turns BGR into RGB only in a batch that is one tensor.
    _collate = staticmethod(default_collate)

    @property
    def templates(self) -> tuple[str, ...]:
        """Sentences with ``{}`` for the class, used if a call gives none."""
        own = self.recipe.model.get("template", DEFAULT_TEMPLATE)
        return tuple(self.recipe.templates) or checked_templates(own)

    def __call__(
        self,
        images: Any,
        *,
        classes: Sequence[str] | None = None,
        template: str | Sequence[str] | None = None,
        batch_size: int | None = None,
        progress: bool = True,
    ) -> Any:
        """Classify.

        Args:
            images, batch_size, progress: See :meth:`mmsdpt.apis.Detector.__call__`.
            classes: Any list of words; by default the training classes.
            template: Sentence with ``{}`` for the word, or several, whose features are averaged.
                Methods that learn a context do not use it.

        Returns:
            :class:`Classification` of one image; :class:`Results` of a folder or list; for a
            generator, a generator.

        Raises:
            InputError: if the single image cannot be read, or no classes are known.
        """
        with self._lock:
            names = self._set(classes, template)
            templates = self.model.templates

        def run(batch: list[Any]) -> list[Any]:
            # A generator computes after the call, when the model may have other classes.
            self.model.set_classes(names, templates)
            return self._run(batch)

        def finish(source: Source, sample: Any) -> Classification:
            return Classification(source, sample.pred_score.float().cpu().numpy(), names)

        return self._predict(images, finish, {}, batch_size, progress, run)

    def features(
        self, images: Any, *, batch_size: int | None = None, progress: bool = True
    ) -> np.ndarray:
        """Normalised image features (N, e), with the tuners that are on.

        Args:
            images, batch_size, progress: As for a call, but no generator; one image gives (1, e).

        Raises:
            InputError: if an image cannot be read, as the rows would not match the images.
        """
        found = self._predict(images, lambda source, x: x, {}, batch_size, progress, self._encode)
        if is_single(images):
            return found[None]
        if not isinstance(found, Results):
            raise InputError("features() needs a list of images, got a generator")
        if found.skipped:
            names = listed(printable(name) for name, _ in found.skipped)
            raise InputError(
                f"{len(found.skipped)} of {len(found) + len(found.skipped)} images cannot be read"
                f" and have no features: leave out {names}"
            )
        width = self.model.text_projection.shape[1]
        return np.array(found.items, dtype=np.float32).reshape(-1, width)

    @torch.no_grad()
    def _encode(self, batch: list[Any]) -> np.ndarray:
        with in_scope(self.recipe.scope):
            data = self.model.data_preprocessor(self._collate(batch), False)
            return self.model.encode_image(data["images"]).float().cpu().numpy()

    @torch.no_grad()
    def text_features(
        self, classes: Sequence[str] | None = None, template: str | Sequence[str] | None = None
    ) -> np.ndarray:
        """Normalised features (C, e) of the classes' texts, with the tuners that are on.

        Raises:
            InputError: if the text features depend on the image (CoCoOp).
        """
        with self._lock, in_scope(self.recipe.scope):
            self._set(classes, template)
            found = self.model.encode_classes()
        if found.dim() != 2:
            raise InputError("the text features of this method depend on the image")
        return found.float().cpu().numpy()

    def _set(
        self, classes: Sequence[str] | None, template: str | Sequence[str] | None
    ) -> tuple[str, ...]:
        names = self._names(classes)
        if classes is not None:  # those of the file were checked in training
            check_class_names(names, as_written, source="this call", strict=False)
        self.model.set_classes(names, self.templates if template is None else template)
        return names

    @staticmethod
    def _use_text_encoder(model: dict[str, Any], folder: str) -> None:
        model["tokenizer"] = {**model["tokenizer"], "folder": folder}
