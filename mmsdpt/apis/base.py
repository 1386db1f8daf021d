"""Common parts of :class:`Detector` and :class:`Classifier`: load a model, run it on images."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from mmcv.transforms import Compose
from mmengine.device import get_device
from tqdm import tqdm

from mmsdpt.datasets.image_files import count_frames
from mmsdpt.registry import TRANSFORMS
from mmsdpt.tuners.files import read_tuner_header
from mmsdpt.utils.data_files import loads_image
from mmsdpt.utils.downloads import resolve_checkpoint
from mmsdpt.utils.errors import CheckpointError, InputError, first_line, printable

from .inputs import Source, as_source, is_single, report, several
from .recipe import Recipe, in_scope
from .results import Results
from .sharing import find_shared, push, write_shared
from .turns import Turns

Model = TypeVar("Model", bound="TunedModel")
TunerFiles = str | Path | Mapping[str, str | Path]


def read_recipe(tuner: TunerFiles | None, config: str | Path | None = None) -> Recipe:
    """Read the recipe of a model from tuner files or a config, see :class:`TunedModel`."""
    files: dict[str, str] | str | None = None
    if isinstance(tuner, Mapping):
        files = {slot: str(path) for slot, path in tuner.items()}
    elif tuner is not None:
        files = str(tuner)
    if config is not None:
        return Recipe.from_config(str(config), files)
    return Recipe.from_files(files or {})


class TunedModel:
    """A host with the tuner files of its slots, ready to predict.

    Args:
        tuner: A tuner file, or files by slot: ``{"fish": "fish.safetensors", "night": ...}``. None:
            the base model of ``config``.
        config: Config of ``tools/train.py``, for files that do not name their model (version 0.1),
            or to use another test pipeline. It is executed.
        base: File of the base weights, if it was moved since training.
        text_encoder: Folder of GLIP's BERT, or of CLIP's vocabulary, if it was moved.
        device: ``cpu``, ``cuda:1``, ...; None: a GPU if there is one.
        batch_size: Images per batch. GLIP pads a batch to one size, so scores depend slightly on
            the other images of a batch; with 1 they do not.

    Several threads may call one object: they take turns, batch by batch.

    Raises:
        InputError: if files do not fit or are missing.
    """

    hosts: ClassVar[tuple[str, ...]]
    """Types of the models that the class supports."""
    other: ClassVar[str]
    """Name of the class for other models."""
    loader: ClassVar[str]
    """Transform that reads an image file, instead of the pipeline's."""

    def __init__(
        self,
        tuner: TunerFiles | None = None,
        *,
        config: str | Path | None = None,
        base: str | Path | None = None,
        text_encoder: str | Path | None = None,
        device: str | torch.device | None = None,
        batch_size: int = 1,
    ) -> None:
        self._start(read_recipe(tuner, config), base, text_encoder, device, batch_size)

    @classmethod
    def of(cls: type[Model], recipe: Recipe, **options: Any) -> Model:
        """The model of a recipe; ``options`` are those of the constructor."""
        model = cls.__new__(cls)
        model._start(recipe, **options)
        return model

    def _start(
        self,
        recipe: Recipe,
        base: str | Path | None = None,
        text_encoder: str | Path | None = None,
        device: str | torch.device | None = None,
        batch_size: int = 1,
    ) -> None:
        if recipe.model.get("type") not in self.hosts:
            raise InputError(
                f"{type(self).__name__} is for {' and '.join(self.hosts)}, but the model is"
                f" {recipe.model.get('type')}: use {self.other}"
            )
        if not any(map(loads_image, recipe.pipeline)):
            raise InputError(
                "the test pipeline of this config does not read image files (its dataset draws the"
                " images): use a config whose data are image files"
            )
        self.recipe, self.batch_size = recipe, checked_positive("batch_size", batch_size)
        if base is not None:
            recipe.load_from = str(base)
        if text_encoder is not None:
            self._use_text_encoder(recipe.model, str(text_encoder))
        self.classes = tuple(recipe.classes)
        # While a batch is computed, the model has that call's classes, slots and weights.
        self._lock = Turns()
        self.device = _usable(device or get_device())
        model = replace(recipe, load_from=_base_weights(recipe)).build()
        # for sharing, perhaps from another directory
        recipe.files = {slot: os.path.abspath(path) for slot, path in recipe.files.items()}
        self._headers = {slot: read_tuner_header(path) for slot, path in recipe.files.items()}
        self.model = model.to(self.device).eval()
        with recipe.building(pipeline=recipe.pipeline):
            loads = list(map(loads_image, recipe.pipeline))
            built = [
                TRANSFORMS.build({**step, "type": self.loader} if load else step)
                for step, load in zip(recipe.pipeline, loads, strict=True)
            ]
            self._of_path = Compose(built)
            self._of_pixels = Compose([x for x, load in zip(built, loads, strict=True) if not load])

    # ------------------------------------------------------------------ sharing

    @classmethod
    def from_pretrained(
        cls: type[Model], name: str | Path, *, revision: str | None = None, **options: Any
    ) -> Model:
        """Load what :meth:`save_pretrained` or :meth:`push_to_hub` wrote.

        Args:
            name: A folder, an id on the Hugging Face hub, or a tuner file.
            revision: Branch, tag or commit on the hub.
            options: ``base``, ``text_encoder``, ``device`` and ``batch_size`` of the constructor.

        Raises:
            InputError: if there is no such model, it cannot be trusted, or the base weights are
                missing.
        """
        return cls.of(find_shared(name, revision), **options)

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        licence: str | None = None,
        data: str | None = None,
        command: str | None = None,
    ) -> Path:
        """Write a folder to share, with the tuner files, ``config.json`` and a model card.

        Args:
            folder: Where to write.
            licence: Licence of the tuner files, such as ``apache-2.0``.
            data: The training data, for the card.
            command: The training command, for the card.

        Raises:
            InputError: if a tuner file was removed or replaced since it was loaded, or another file
                would be overwritten.
        """
        self._check_files()
        card = dict(licence=licence, data=data, command=command)
        return write_shared(self.recipe, folder, kind=type(self).__name__, **card)

    def push_to_hub(
        self,
        name: str,
        *,
        private: bool = True,
        token: str | None = None,
        licence: str | None = None,
        data: str | None = None,
        command: str | None = None,
    ) -> str:
        """Upload the folder that :meth:`save_pretrained` writes to the Hugging Face hub.

        Args:
            name: ``person/model``; created if it does not exist.
            private: Whether a new repository is private.
            token: Access token; by default the one that ``huggingface-cli login`` saved.
            licence, data, command: See :meth:`save_pretrained`.

        Returns:
            The URL of the commit.
        """
        self._check_files()
        card = dict(licence=licence, data=data, command=command)
        return push(self.recipe, name, private, token, kind=type(self).__name__, **card)

    def _check_files(self) -> None:
        """Refuse to share files that have changed since they were loaded."""
        for slot, path in self.recipe.files.items():
            if read_tuner_header(path) != self._headers[slot]:
                raise InputError(f"{path} was replaced after it was loaded: load it again")

    @staticmethod
    def _use_text_encoder(model: dict[str, Any], folder: str) -> None:
        raise NotImplementedError

    # ------------------------------------------------------------------ slots

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the slots."""
        return tuple(self.model.tuners)

    @contextmanager
    def tuners_off(self, *slots: str) -> Iterator[None]:
        """Switch tuners off in a ``with`` block, by default all: the base model, bit for bit.
        Calls in other threads wait for its end.
        """
        with self._lock, self.model.tuners_off(*self._known(slots)):
            yield

    def enable(self, *slots: str, on: bool = True) -> None:
        """Switch tuners on, or off with ``on=False``; by default all."""
        with self._lock:
            for slot in self._known(slots) or self.slots:
                self.model.set_slot_enabled(slot, on)

    def _known(self, slots: Sequence[str]) -> Sequence[str]:
        if unknown := [slot for slot in slots if slot not in self.slots]:
            raise InputError(
                f"no slot {unknown[0]!r}; the slots are: {', '.join(self.slots) or 'none'}"
            )
        return slots

    # ------------------------------------------------------------------ images to results

    def _names(self, classes: Iterable[str] | None) -> tuple[str, ...]:
        """The classes of a call; None: those of the training.

        Raises:
            InputError: if they are not a list of names, or empty.
        """
        if isinstance(classes, str):
            raise InputError(f"classes must be a list of names, got the text {classes!r}")
        names = self.classes if classes is None else tuple(classes)
        # elements of an array are NumPy strings; the checks refuse anything else
        names = tuple(str(name) if isinstance(name, str) else name for name in names)
        if not names:
            raise InputError("no classes are known: give classes=[...]")
        return names

    def _predict(
        self,
        inputs: Any,
        finish: Callable[[Source, Any], Any],
        extra: Mapping[str, Any],
        batch_size: int | None,
        progress: bool,
        run: Callable[[list[Any]], Sequence[Any]] | None = None,
    ) -> Any:
        """The result of ``finish`` for one image; :class:`Results` for a folder or list; a
        generator for a generator. Uses the tuners that are on at the call.
        """
        run = run or self._run
        size = self.batch_size if batch_size is None else checked_positive("batch_size", batch_size)
        if is_single(inputs):
            source = as_source(inputs)
            data = self._prepare(source, extra)
            with self._lock:
                return finish(source, run([data])[0])
        skipped: list[tuple[str, str]] = []

        def skip(name: str, error: Exception) -> None:
            report(name, error)
            skipped.append((name, str(error)))

        # A generator computes after the call, when tuners may have been switched.
        with self._lock:
            enabled = {slot: tuner.enabled for slot, tuner in self.model.tuners.items()}

        def finished(batch: Sequence[tuple[Source, Any]]) -> Iterator[Any]:
            with self._lock, self.model.switched(enabled):
                samples = run([data for _, data in batch])
            for (source, _), sample in zip(batch, samples, strict=True):
                yield finish(source, sample)

        def found(sources: Iterable[Source]) -> Iterator[Any]:
            batch: list[tuple[Source, Any]] = []
            for source in sources:
                try:
                    batch.append((source, self._prepare(source, extra)))
                except InputError as error:
                    skip(source.name, error)
                if len(batch) == size:
                    yield from finished(batch)
                    batch = []
            if batch:
                yield from finished(batch)

        sources = several(inputs, skip)
        if not isinstance(sources, list):
            return found(sources)
        # None: shown on a terminal.
        bar = tqdm(sources, unit="image", disable=None if progress else True)
        return Results(list(found(bar)), skipped)

    def _prepare(self, source: Source, extra: Mapping[str, Any]) -> Any:
        """The packed sample of an image."""
        data: dict[str, Any] = dict(img_id=0, **extra)
        with in_scope(self.recipe.scope):
            if isinstance(source.content, str):
                if (frames := count_frames(source.content)) > 1:
                    report(
                        source.name,
                        f"only the first of {frames} frames or pages is used",
                        skipped=False,
                    )
                return self._of_path({**data, "img_path": source.content})
            image = source.content[..., ::-1].copy()  # the toolboxes use BGR
            shape = image.shape[:2]
            data.update(img_path=source.name, img=image, img_shape=shape, ori_shape=shape)
            return self._of_pixels(data)

    @torch.no_grad()
    def _run(self, batch: list[Any]) -> list[Any]:
        with in_scope(self.recipe.scope):
            return self.model.test_step(self._collate(batch))

    @staticmethod
    def _collate(batch: list[Any]) -> Any:
        raise NotImplementedError


def checked_positive(name: str, value: int) -> int:
    """The value of an argument that must be a positive integer."""
    if not isinstance(value, (int, np.integer)) or value < 1:
        raise InputError(f"{name} must be a positive integer, got {value!r}")
    return int(value)


def _base_weights(recipe: Recipe) -> str:
    """Path of the base weights.

    Raises:
        InputError: if they are missing, with how to set them.
    """
    name = recipe.load_from
    if not name:
        raise InputError("the file does not name its base weights: give their path, base=PATH")
    if name.startswith(("http://", "https://")):  # an untrusted file may name any address
        raise InputError(
            f"the base weights are at {printable(name)}: download the file and give its path,"
            " base=PATH"
        )
    try:
        return resolve_checkpoint(name)
    except CheckpointError as error:
        advice = str(error).replace("--cfg-options load_from=PATH", "base=PATH")
        raise CheckpointError(advice) from None


def _usable(device: str | torch.device) -> torch.device:
    """The device, if this machine has it.

    Raises:
        InputError: if not.
    """
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # the latter with a build without CUDA
        reason = first_line(error)
        raise InputError(f"device={str(device)!r} cannot be used here: {reason}") from error
    return torch.device(device)
