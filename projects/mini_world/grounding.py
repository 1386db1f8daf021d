"""Grounded pre-training samples, drawn when they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.dataset import BaseDataset

from mmsdpt.registry import DATASETS

from .captions import negative_phrases, positive_phrases
from .render import Scene, SceneRenderer, Style
from .world import Concept, combinations, matches, parse_phrase


def related_concepts(
    kinds: Sequence[Concept], count: int, rng: np.random.Generator, related: float = 0.5
) -> list[Concept]:
    """``count`` of ``kinds``; with probability ``related`` all share one or two attributes with the
    first.

    Such pictures hold hard negatives for each other: the model has to look at every attribute.
    """
    first = kinds[int(rng.integers(len(kinds)))]
    pool = list(kinds)
    if rng.random() < related:
        attributes = rng.permutation(["shape", "colour", "texture"])[: int(rng.integers(1, 3))]
        shared = Concept(**{str(name): getattr(first, str(name)) for name in attributes})
        pool = [kind for kind in kinds if matches(shared, kind)]
    return [first] + [pool[int(rng.integers(len(pool)))] for _ in range(count - 1)]


class DrawnDataset(BaseDataset):
    """Samples that are drawn when they are asked for; ``num_samples`` says how many there are."""

    num_samples: int

    def load_data_list(self) -> Sequence[int]:
        """The numbers of all samples; nothing is drawn yet."""
        return range(self.num_samples)

    def filter_data(self) -> Sequence[int]:
        """All samples: none is without an object."""
        return self.data_list

    def __len__(self) -> int:
        return len(self.data_list) if self._fully_initialized else self.num_samples


@DATASETS.register_module()
class SceneGroundingDataset(DrawnDataset):
    """Procedural scenes with phrases, made on the fly. Sample i depends on (seed, i) and the
    arguments only.

    Each result already holds what image and annotation loaders would add: ``img`` (H, W, 3) uint8
    BGR, ``gt_bboxes`` (``HorizontalBoxes``, xyxy in pixels), ``gt_bboxes_labels``,
    ``gt_ignore_flags``; ``text``, a tuple of phrases that the labels index, and
    ``custom_entities=True`` for GLIP. ``PackDetInputs`` must list ``text`` and ``custom_entities``
    among its meta keys.

    Without ``classes``, the phrases of each sample are its own: each object is matched by exactly
    one phrase, the others match no object, and their order is random. With ``classes`` every sample
    has these phrases in this order.

    Args:
        num_samples: length of the dataset.
        seed: makes another dataset of the same kind.
        image_size: side of the square pictures, pixels; the sizes of the objects do not change with
            it.
        max_objects: largest number of objects in a picture.
        max_phrases: largest number of phrases in a caption, at least 3.
        combinations: "seen", "held_out" or "all", what may be drawn. With "seen" no held-out
            combination is named either.
        classes: phrases for a fixed caption, for evaluation. Only combinations that exactly one of
            them matches are drawn.
        pipeline: transforms after drawing.
        related: probability that the objects of a picture share attributes.
        hard_negatives: probability that a negative phrase differs in one attribute only.
        single_attribute: probability that a phrase names one attribute, for a curriculum.
        style: overrides of ``Style``.
        test_mode: as in MMEngine.
        lazy_init: as in MMEngine.

    Raises:
        ValueError: fewer than 3 phrases or no object allowed, or a class that can never be drawn.
    """

    METAINFO = {"classes": ("object",)}

    def __init__(
        self,
        num_samples: int,
        seed: int = 0,
        image_size: int = 224,
        max_objects: int = 7,
        max_phrases: int = 10,
        combinations: str = "seen",
        classes: Sequence[str] | None = None,
        related: float = 0.5,
        hard_negatives: float = 0.7,
        single_attribute: float = 0.0,
        pipeline: Sequence[Any] = (),
        style: dict[str, Any] | None = None,
        test_mode: bool = False,
        lazy_init: bool = False,
    ) -> None:
        if max_phrases < 3 or max_objects < 1:
            raise ValueError(
                "max_phrases must be at least 3 and max_objects at least 1, "
                f"but got {max_phrases} and {max_objects}"
            )
        self.num_samples = num_samples
        self.seed = seed
        self.max_objects = max_objects
        self.max_phrases = max_phrases
        self.combinations = combinations
        self.related = related
        self.hard_negatives = hard_negatives
        self.single_attribute = single_attribute
        self.renderer = SceneRenderer(image_size, replace(Style(), **(style or {})))
        self.classes = None if classes is None else tuple(classes)
        self.kinds = self._drawable_kinds()
        super().__init__(
            metainfo=None if self.classes is None else {"classes": self.classes},
            serialize_data=False,
            pipeline=list(pipeline),
            test_mode=test_mode,
            lazy_init=lazy_init,
        )

    def _drawable_kinds(self) -> tuple[Concept, ...]:
        kinds = combinations(self.combinations)
        if self.classes is None:
            return kinds
        named = [parse_phrase(phrase) for phrase in self.classes]
        kinds = tuple(kind for kind in kinds if sum(matches(phrase, kind) for phrase in named) == 1)
        for phrase, text in zip(named, self.classes, strict=True):
            if not any(matches(phrase, kind) for kind in kinds):
                raise ValueError(
                    f"no combination of {self.combinations!r} matches the class {text!r} and no"
                    " other class; remove it, or choose other combinations"
                )
        return kinds

    def sample(self, index: int) -> tuple[Scene, tuple[Concept, ...], list[int]]:
        """Scene ``index``, the phrases of its caption, and for each object the index of its
        phrase.
        """
        rng = np.random.default_rng((self.seed, index))
        most = self.max_objects if self.classes else min(self.max_objects, self.max_phrases)
        scene = None
        # A grey object on grey ground finds no place: draw again rather than give an empty picture.
        while scene is None or not scene.objects:
            # The larger of two draws: full pictures teach more per step.
            count = int(rng.integers(1, most + 1, size=2).max())
            concepts = related_concepts(self.kinds, count, rng, self.related)
            scene = self.renderer.render(concepts, rng)
        if self.classes is not None:
            phrases = [parse_phrase(phrase) for phrase in self.classes]
            labels = [
                next(number for number, phrase in enumerate(phrases) if matches(phrase, thing))
                for thing in scene.objects
            ]
            return scene, tuple(phrases), labels
        positives, labels = positive_phrases(scene.objects, rng, self.single_attribute)
        total = int(rng.integers(max(3, len(positives)), self.max_phrases + 1))
        negatives = negative_phrases(
            scene.objects,
            positives,
            total - len(positives),
            self.kinds,
            rng,
            may_be_held_out=self.combinations != "seen",
            hard=self.hard_negatives,
            single_attribute=self.single_attribute,
        )
        phrases = positives + negatives
        order = rng.permutation(len(phrases))
        place = np.argsort(order)
        return scene, tuple(phrases[old] for old in order), [int(place[label]) for label in labels]

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Sample ``idx`` before the pipeline.

        Args:
            idx: position in the dataset.

        Returns:
            A results dict as after MMDetection's loading transforms.
        """
        if not self._fully_initialized:
            self.full_init()
        index = self.data_list[idx]
        scene, phrases, labels = self.sample(index)
        height, width = scene.image.shape[:2]
        return {
            "img": np.ascontiguousarray(scene.image[..., ::-1]),
            "img_id": index,
            "img_path": f"scene_{self.seed}_{index}.png",
            "img_shape": (height, width),
            "ori_shape": (height, width),
            "height": height,
            "width": width,
            "scale_factor": (1.0, 1.0),
            "sample_idx": idx,
            "text": tuple(phrase.phrase for phrase in phrases),
            "custom_entities": True,
            "gt_bboxes": HorizontalBoxes(scene.boxes.copy()),
            "gt_bboxes_labels": np.array(labels, dtype=np.int64),
            "gt_ignore_flags": np.zeros(len(labels), dtype=bool),
            "instances": [
                {"bbox": box.tolist(), "bbox_label": label, "ignore_flag": 0}
                for box, label in zip(scene.boxes, labels, strict=True)
            ],
        }
