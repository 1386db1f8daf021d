"""Results of the models as arrays and names, with export to pictures, JSON and COCO."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmsdpt.utils.atomic import write_atomically
from mmsdpt.utils.errors import InputError, printable
from mmsdpt.utils.texts import read_json
from mmsdpt.visualization import Boxes, draw_detections, draw_scores
from mmsdpt.visualization.drawing import picture_path
from mmsdpt.visualization.single import read_upright

from .inputs import Source


class Detection(NamedTuple):
    """One box: class, score, and (x1, y1, x2, y2) in pixels of the original image."""

    name: str
    score: float
    box: tuple[float, float, float, float]


class _Plain:
    """Base of results that can be converted to plain Python values and JSON."""

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain Python values."""
        raise NotImplementedError

    def to_json(self, path: str | Path | None = None) -> str:
        """:meth:`to_dict` as JSON; also written to ``path`` if one is given."""
        return to_json(self.to_dict(), path)


class _Result(_Plain):
    """Base of detections and classifications: a result for one image."""

    source: Source

    @property
    def path(self) -> str | None:
        """Path of the image; None for an array."""
        return self.source.content if isinstance(self.source.content, str) else None

    @property
    def image(self) -> np.ndarray:
        """(H, W, 3) RGB, rotated by its EXIF orientation; read from the file again."""
        content = self.source.content
        return read_upright(content) if isinstance(content, str) else content


@dataclass(frozen=True)
class Detections(_Result):
    """The n objects found in one image, best first.

    Attributes:
        width, height: Of the original image in pixels.
        boxes: (n, 4) float32, xyxy in pixels of the original image.
        scores: (n,) float32, between 0 and 1.
        labels: (n,) int64, indices into ``classes``.
        classes: The names to detect.
    """

    source: Source
    width: int
    height: int
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.boxes)

    def __iter__(self) -> Iterator[Detection]:
        for name, score, box in zip(self.names, self.scores, self.boxes, strict=True):
            x1, y1, x2, y2 = map(float, box)
            yield Detection(name, float(score), (x1, y1, x2, y2))

    @property
    def names(self) -> list[str]:
        """Class of each box."""
        return [self.classes[label] for label in self.labels]

    def take(self, chosen: np.ndarray) -> Detections:
        """The boxes at ``chosen``, indices or a mask."""
        boxes, scores, labels = (x[chosen] for x in (self.boxes, self.scores, self.labels))
        return replace(self, boxes=boxes, scores=scores, labels=labels)

    def above(self, threshold: float) -> Detections:
        """The boxes with at least this score, best first."""
        order = np.argsort(-self.scores, kind="stable")  # of chunks of a class list, one by one
        return self.take(order[self.scores[order] >= threshold])

    def save(self, path: str | Path, top_k: int | None = None) -> Path:
        """Draw the boxes on the image. Of overlapping boxes only the best is drawn.

        Args:
            path: The picture; its extension selects the format.
            top_k: Maximum number of boxes to draw, best first.
        """
        boxes = Boxes(self.boxes, self.labels, self.scores)
        return draw_detections(self.image, boxes, self.classes, path, top_k=top_k)

    def to_dict(self) -> dict[str, Any]:
        """``image``, ``width``, ``height``, and ``detections``: ``name``, ``label``, ``score``
        and ``box`` (xyxy).
        """
        found = [
            dict(name=each.name, label=int(label), score=each.score, box=list(each.box))
            for each, label in zip(self, self.labels, strict=True)
        ]
        return dict(
            image=self.path or self.source.name,
            width=self.width,
            height=self.height,
            detections=found,
        )

    def to_coco(
        self, image_id: int = 1, category_ids: Sequence[int] | None = None
    ) -> list[dict[str, Any]]:
        """COCO's result format, as ``pycocotools`` loads it.

        Args:
            image_id: Id of the image in the annotations.
            category_ids: Category ids by label; by default 1, 2, ...
        """
        ids = category_ids or range(1, len(self.classes) + 1)
        return [
            dict(
                image_id=image_id,
                category_id=int(ids[label]),
                bbox=[x1, y1, x2 - x1, y2 - y1],
                score=score,
            )
            for (_, score, (x1, y1, x2, y2)), label in zip(self, self.labels, strict=True)
        ]

    def to_supervision(self) -> Any:
        """``supervision.Detections`` with ``class_name`` in its data.

        Raises:
            InputError: if the package is not installed.
        """
        try:
            import supervision
        except ImportError:
            raise InputError(
                "to_supervision() needs a package that is not installed: pip install supervision"
            ) from None
        return supervision.Detections(
            xyxy=self.boxes,
            confidence=self.scores,
            class_id=self.labels,
            data={"class_name": np.array(self.names, dtype=str)},
        )


@dataclass(frozen=True)
class Classification(_Result):
    """Class probabilities of one image.

    Attributes:
        scores: (C,) float32, the probability of each class; they sum to 1.
        classes: C names.
    """

    source: Source
    scores: np.ndarray
    classes: tuple[str, ...]

    @property
    def label(self) -> int:
        """Index of the best class."""
        return int(self.scores.argmax())

    @property
    def name(self) -> str:
        """The best class."""
        return self.classes[self.label]

    @property
    def score(self) -> float:
        """Probability of the best class."""
        return float(self.scores.max())

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """The k best classes with their probabilities, best first."""
        order = np.argsort(-self.scores, kind="stable")[:k]
        return [(self.classes[i], float(self.scores[i])) for i in order]

    def save(self, path: str | Path, k: int = 5) -> Path:
        """Draw the k best classes beside the image."""
        return draw_scores(self.image, self.top(k), path)

    def to_dict(self, k: int = 5) -> dict[str, Any]:
        """``image``, ``name``, ``label``, ``score``, and ``top``: the k best with their scores."""
        return dict(
            image=self.path or self.source.name,
            name=self.name,
            label=self.label,
            score=self.score,
            top=[dict(name=name, score=score) for name, score in self.top(k)],
        )


@dataclass
class Results(_Plain, Sequence):
    """Results of several images, in their order.

    Attributes:
        items: The results.
        skipped: Name of each image that could not be used, and why.
    """

    items: list[Any] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)

    def __getitem__(self, index):
        return self.items[index]

    def __len__(self) -> int:
        return len(self.items)

    def save(self, folder: str | Path) -> list[Path]:
        """Draw every result into a folder, keeping the images' names and subfolders. Names get
        ``.png`` if pictures cannot be written in the image's format, such as BMP.

        Raises:
            InputError: if a picture would overwrite one of the images.
        """
        images = {Path(result.path).resolve() for result in self.items if result.path}
        paths = [picture_path(Path(folder) / result.source.name) for result in self.items]
        if lost := next((path for path in paths if path.resolve() in images), None):
            raise InputError(f"{lost} would overwrite one of the images: choose another folder")
        return [result.save(path) for result, path in zip(self.items, paths, strict=True)]

    def to_dict(self) -> dict[str, Any]:
        """``results``, and ``skipped`` with ``image`` and ``reason``."""
        return dict(
            results=[result.to_dict() for result in self.items],
            skipped=[dict(image=name, reason=reason) for name, reason in self.skipped],
        )

    def to_coco(self, annotations: str | Path | None = None) -> list[dict[str, Any]]:
        """The boxes of all images in COCO's result format.

        Args:
            annotations: COCO file to take ids from, matched by class names and by the images' names
                or the ends of their paths. Without it, images and classes are numbered from 1.

        Raises:
            InputError: if an image or a class is not in the file, or the results have no boxes.
        """
        if not all(isinstance(result, Detections) for result in self.items):
            raise InputError("COCO's result format is for boxes, but these results have none")
        if annotations is None:
            return [b for i, result in enumerate(self.items, 1) for b in result.to_coco(i)]
        ids = CocoIds(annotations)
        return [
            box
            for result in self.items
            for box in result.to_coco(
                ids.of_image(result.path or result.source.name), ids.of_classes(result.classes)
            )
        ]


class CocoIds:
    """The ids of images and classes in a COCO file.

    Args:
        annotations: The file.

    Raises:
        InputError: if it is not a COCO file.
    """

    def __init__(self, annotations: str | Path) -> None:
        content = read_json(annotations)
        self.annotations = annotations
        try:
            self._images = {image["file_name"]: image["id"] for image in content["images"]}
            self._classes = {each["name"]: each["id"] for each in content["categories"]}
        except (KeyError, TypeError) as error:
            raise InputError(
                f"{annotations} is not an annotation file of COCO: {error!r}"
            ) from error

    def of_image(self, path: str) -> int:
        """The id of the image whose name in the file is the longest end of the path.

        Raises:
            InputError: if there is none.
        """
        parts = Path(path).parts
        for end in ("/".join(parts[i:]) for i in range(len(parts))):
            if end in self._images:
                return self._images[end]
        raise InputError(f"{self.annotations} has no image {printable(path)}")

    def of_classes(self, names: Sequence[str]) -> list[int]:
        """The ids of classes.

        Raises:
            InputError: if one is not in the file.
        """
        if absent := [name for name in names if name not in self._classes]:
            raise InputError(f"{self.annotations} has no class {printable(absent[0])}")
        return [self._classes[name] for name in names]


def to_json(content: Mapping | Sequence, path: str | Path | None = None) -> str:
    """The content as JSON; also written to ``path``, atomically, if one is given."""
    # Bytes of a file name that are not UTF-8 become \udcXX in JSON, and are restored on reading.
    data = json.dumps(content, indent=1, ensure_ascii=False).encode(errors="backslashreplace")
    if path is not None:
        write_atomically(path, data)
    return data.decode()
