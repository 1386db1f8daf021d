"""What the page computes: models from chosen tuner files, boxes before and after, attention."""

from __future__ import annotations

import re
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmsdpt.analysis.attention_page import draw_attention
from mmsdpt.analysis.models import Picture
from mmsdpt.apis import Detector
from mmsdpt.apis.base import read_recipe
from mmsdpt.apis.inputs import Source
from mmsdpt.datasets.image_files import UnreadableImage, inspect_image, open_image, read_bytes
from mmsdpt.hosts.base import RESERVED
from mmsdpt.tuners.files import read_tuner_header
from mmsdpt.utils.class_names import parse_names
from mmsdpt.utils.errors import InputError
from projects.mini_world.class_folders import grey
from projects.mini_world.garments import draw_garment
from projects.mini_world.tasks import TaskPainter

MOST_CLASSES, MOST_LETTERS, MOST_PIXELS = 50, 2000, 25_000_000
EXAMPLES = ("thermal", "clutter", "new_shapes")
GARMENTS = ("t-shirt", "brimmed hat", "shoes", "dress")
GREY_GARMENTS = ("bag", "glove", "hoodie")  # of the data that the page's tuner file is for
_ROW = tuple[str, str, float] | tuple[str, str, float, str]
"""Before or after, name, score, and of a detector the box in words."""


def find_tuner_files(folders: Iterable[str], kind: type) -> dict[str, str]:
    """Tuner files of a kind of model by what the page calls them, at most 200."""
    found: list[tuple[Path, Path, object]] = []
    for folder in map(Path, dict.fromkeys(folders)):
        for path in sorted(folder.rglob("*.safetensors")) if folder.is_dir() else ():
            try:
                header = read_tuner_header(path)
                host = header["model"]["config"]["type"]
            except (InputError, KeyError, TypeError):
                continue  # base weights, and files that do not say their model
            if host in kind.hosts and len(found) < 200:
                found.append((path.relative_to(folder), path, header.get("method")))
    times = Counter(name for name, *_ in found)  # in several folders
    return {
        f"{name if times[name] == 1 else path} ({method})": str(path)
        for name, path, method in found
    }


def draw_examples(folder: Path) -> tuple[list[str], list[str]]:
    """Drawn pictures for the detector and for the classifier."""
    scenes, garments = [], []
    for task in EXAMPLES:
        painter = TaskPainter(task)
        for i in (1, 2):
            path = folder / f"{task}_{i}.png"
            Image.fromarray(painter.draw("test", i)[0].image).save(path)
            scenes.append(str(path))
    for i, kind in enumerate((*GREY_GARMENTS, *GARMENTS)):
        path, rng = folder / f"{kind}.png", np.random.default_rng(i)
        image = draw_garment(rng, 224, kind).image
        Image.fromarray(grey(image, rng) if kind in GREY_GARMENTS else image).save(path)
        garments.append(str(path))
    return scenes, garments


def classes_of(text: str) -> list[str] | None:
    """Class names from a field of the page, each once; None: those of the model.

    Raises:
        InputError: if there are too many.
    """
    if len(text) > MOST_LETTERS:
        raise InputError(
            f"the classes have {len(text)} letters, and there is room for {MOST_LETTERS}"
        )
    names = [name for name in dict.fromkeys(parse_names(text)) if name]
    if len(names) > MOST_CLASSES:
        raise InputError(f"{len(names)} classes were given, and there is room for {MOST_CLASSES}")
    return names or None


def check_picture(path: str | None) -> str:
    """The path, if its image can be used and is not too large.

    Raises:
        InputError: if there is none, or it cannot.
    """
    if not path:
        raise InputError("choose an example or upload an image")
    try:
        with open_image(read_bytes(path)) as image:
            width, height = image.size
        if width * height <= MOST_PIXELS:
            inspect_image(path)
            return path
    except UnreadableImage as error:
        raise InputError(f"the image cannot be used: {error}") from None
    raise InputError(
        f"the image has {width} x {height} pixels, and the page takes"
        f" {MOST_PIXELS // 1_000_000} million"
    )


class Workbench:
    """One kind of model with the tuner files that are chosen; keeps the latest model.

    Args:
        kind: :class:`Detector` or :class:`Classifier`.
        folders: Where tuner files are looked for.
        config: Of the model without a tuner file.
        options: ``base``, ``text_encoder`` and ``device`` of the model.
    """

    def __init__(
        self, kind: type[Any], folders: Sequence[str], config: str, **options: Any
    ) -> None:
        self.kind, self.folders, self.config, self.options = kind, folders, config, options
        self._lock = threading.Lock()  # a model has one set of switches, and one page at a time
        self._made: tuple[tuple[str, ...], Any] | None = None

    def files(self) -> list[str]:
        """What can be chosen."""
        return list(find_tuner_files(self.folders, self.kind))

    @staticmethod
    def slots(chosen: Sequence[str]) -> list[str]:
        """The slot of each chosen file; names that a slot can have, each once."""
        found: list[str] = []
        for label in chosen:
            file = label.rpartition(" (")[0].removesuffix(".safetensors")
            name = re.sub(r"\W+", "_", file, flags=re.ASCII)
            name = f"s_{name}" if not name[:1].isalpha() or name in RESERVED else name
            while name in found:
                name += "_"
            found.append(name)
        return found

    def classes(self, chosen: Sequence[str]) -> tuple[str, ...]:
        """What the model was tuned for."""
        with self._model(chosen, ()) as model:
            return model.classes

    @contextmanager
    def _model(self, chosen: Sequence[str], on: Sequence[str]) -> Iterator[Any]:
        """The model with these files, and those slots switched on."""
        with self._lock:
            key = tuple(chosen)
            if self._made is None or self._made[0] != key:
                self._made = None  # the old one's memory, before the new one takes its own
                self._made = key, self._build(key)
            model = self._made[1]
            if model.slots:
                model.enable(on=False)
            if known := [slot for slot in model.slots if slot in on]:
                model.enable(*known)
            yield model

    def _build(self, chosen: Sequence[str]) -> Any:
        known = find_tuner_files(self.folders, self.kind)
        if unknown := [label for label in chosen if label not in known]:
            raise InputError(f"the tuner file {unknown[0]} is not there any more: choose again")
        files = dict(zip(self.slots(chosen), (known[label] for label in chosen), strict=True))
        recipe = read_recipe(files) if files else read_recipe(None, self.config)
        return self.kind.of(recipe, **self.options)

    def predict(
        self,
        path: str | None,
        chosen: Sequence[str],
        on: Sequence[str],
        classes: str,
        threshold: float,
        template: str,
        folder: Path,
    ) -> tuple[str, str, list[_ROW]]:
        """Pictures of an image before and after, and the rows of their table.

        Raises:
            InputError: with one sentence for the page.
        """
        path, names = check_picture(path), classes_of(classes)
        rows: list[_ROW] = []
        pictures = []
        detects = self.kind is Detector
        options = dict(threshold=threshold) if detects else dict(template=template or None)
        with self._model(chosen, on) as model:
            _words(names, model)
            for when in ("before", "after"):
                with model.tuners_off() if when == "before" and model.slots else nullcontext():
                    result = model(path, classes=names, **options)
                pictures.append(str(result.save(_new_file(folder, when))))
                if detects:
                    rows += [
                        (when, name, round(score, 3), ", ".join(f"{v:.0f}" for v in box))
                        for name, score, box in result
                    ]
                else:
                    rows += [(when, name, round(score, 3)) for name, score in result.top(10)]
        return pictures[0], pictures[1], rows

    def attention(
        self,
        path: str | None,
        chosen: Sequence[str],
        on: Sequence[str],
        classes: str,
        template: str,
        folder: Path,
    ) -> str:
        """The picture of where the model looks, before and after."""
        path, names = check_picture(path), classes_of(classes)
        detects = self.kind is Detector
        with self._model(chosen, on) as model:
            words = _words(names, model)
            extra = model._of_classes(words) if detects else {}
            if not detects:
                model.model.set_classes(words, template or model.templates or None)
            item = model._prepare(Source(path, Path(path).name), extra)
            picture = Picture(Path(path).name, path, item, has_truth=False)
            target = _new_file(folder, "attention")
            return str(draw_attention(model.model, picture, words, detects, target))


def _words(names: list[str] | None, model: Any) -> tuple[str, ...]:
    """What to look for."""
    if words := tuple(names or model.classes):
        return words
    raise InputError("no classes are known: type some")


def _new_file(folder: Path, name: str) -> Path:
    return folder / f"{name}_{uuid.uuid4().hex}.png"


def in_one_sentence(function: Callable[..., Any], complain: Callable[[str], Exception]) -> Any:
    """``function``, whose errors for people become the page's."""

    def run(*args: Any) -> Any:
        try:
            return function(*args)
        except InputError as error:
            raise complain(str(error)) from None

    return run
