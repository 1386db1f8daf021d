"""Pictures with captions for contrastive pre-training, drawn when they are asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from mmsdpt.registry import DATASETS
from mmsdpt.utils.errors import InputError

from .captions import positive_phrases
from .garments import GARMENTS, GarmentPicture, draw_garment
from .grounding import DrawnDataset, related_concepts
from .render import SceneRenderer, Style
from .world import Concept, combinations, parse_phrase

TEMPLATE = "a photo of a {}."
# Of the 64 pixels of a picture; SceneRenderer's own are for pictures of 160 and more.
_DIAMETERS = (("small", (11.0, 18.0)), ("medium", (18.0, 29.0)), ("large", (29.0, 44.0)))
_SENTENCES = (
    "a photo of {}.",
    "a photo of {}.",
    "a picture of {}.",
    "a cropped photo of {}.",
    "a close-up photo of {}.",
    "a blurry photo of {}.",
    "an image of {}.",
    "{}.",
    "{}",
    "there is {} in the picture.",
    "this is {}.",
)
_PLACES = {
    "bed": ("on a bed", "on a sheet"),
    "floor": ("on the floor", "on a wooden floor"),
    "tiles": ("on tiles", "on the floor"),
    "carpet": ("on a carpet",),
    "blanket": ("on a blanket", "on a bed"),
    "wall": ("against a wall",),
    "background": ("on a background",),
}
_NUMBERS = {1: "a", 2: "two", 3: "three", 4: "four"}
_PLURALS = ("shorts", "pants", "trousers", "jeans", "shoes", "socks", "footwear", "outwear")


def _pick(options: Sequence[str], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]


def _with_article(words: str) -> str:
    if words.endswith(_PLURALS) and not words.startswith("pair"):
        return words
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def things_caption(
    objects: Sequence[Concept], rng: np.random.Generator, single_attribute: float = 0.1
) -> str:
    """A sentence that names every object, equal ones by their number."""
    phrases, labels = positive_phrases(objects, rng, single_attribute)
    counts = Counter(labels)
    parts = []
    for index, phrase in enumerate(phrases):
        words = phrase.phrase
        if counts[index] > 1:
            words += "es" if words.endswith("s") else "s"
            parts.append(f"{_NUMBERS[counts[index]]} {words}")
        else:
            parts.append(_with_article(words))
    listed = " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
    if len(parts) == 1 and counts[0] == 1 and rng.random() < 0.3:
        return TEMPLATE.format(phrases[0].phrase)
    return _pick(_SENTENCES, rng).format(listed)


def garment_caption(
    picture: GarmentPicture, rng: np.random.Generator, name_alone: float = 0.3
) -> str:
    """A sentence with the garment's name or a synonym; with probability ``name_alone`` without any
    of its attributes.
    """
    names = GARMENTS[picture.kind][1]
    name = names[0] if rng.random() < 0.6 else _pick(names, rng)
    if rng.random() < name_alone:
        return TEMPLATE.format(name)
    words = [name]
    if picture.fabric != "plain" and rng.random() < 0.5:
        words.insert(0, picture.fabric)
    if rng.random() < 0.55:
        words.insert(0, picture.colour)
    thing = _with_article(" ".join(words))
    if picture.printed and rng.random() < 0.3:
        thing += " with a print"
    if rng.random() < 0.35:
        thing += " " + _pick(_PLACES[picture.surface], rng)
    return _pick(_SENTENCES, rng).format(thing)


@DATASETS.register_module()
class SceneCaptionDataset(DrawnDataset):
    """Procedural pictures with captions, made on the fly: things of the procedural world (shapes in
    colours and textures, alone or in small groups) and drawn clothes. Sample i depends on (seed, i)
    and the arguments only.

    Each result holds ``img`` (H, W, 3) uint8 BGR and ``caption``, a sentence. ``PackInputs`` must
    list ``caption`` among its ``algorithm_keys``.

    With ``classes`` sample i shows one thing of class i mod C alone, has its ``gt_label``, and its
    caption is the class in the template: to evaluate zero-shot.

    Args:
        num_samples: length of the dataset.
        seed: makes another dataset of the same kind.
        image_size: side of the square pictures, pixels; at least 64.
        max_objects: largest number of shapes in a picture, at most 4.
        clothes: share of pictures that show a garment.
        name_alone: probability that a caption names a garment, or a single shape's one attribute,
            and nothing else; for a curriculum.
        combinations: "seen", "held_out" or "all": which shapes, colours and textures go together.
        classes: phrases such as "striped blue star" or kinds of garments such as "t-shirt".
        pipeline: transforms after drawing.
        test_mode: as in MMEngine.
        lazy_init: as in MMEngine.

    Raises:
        InputError: a class that can never be drawn, or an argument out of its range.
    """

    METAINFO = {"template": TEMPLATE}

    def __init__(
        self,
        num_samples: int,
        seed: int = 0,
        image_size: int = 64,
        max_objects: int = 3,
        clothes: float = 0.65,
        name_alone: float = 0.3,
        combinations: str = "seen",
        classes: Sequence[str] | None = None,
        pipeline: Sequence[Any] = (),
        test_mode: bool = False,
        lazy_init: bool = False,
    ) -> None:
        if not 1 <= max_objects <= max(_NUMBERS) or not 0 <= clothes <= 1:
            raise InputError(
                f"max_objects must be within 1..{max(_NUMBERS)} and clothes within 0..1,"
                f" but got {max_objects} and {clothes}"
            )
        self.num_samples, self.seed, self.image_size = num_samples, seed, image_size
        self.max_objects, self.clothes = max_objects, clothes
        self.name_alone = name_alone
        self.kinds = _kinds(combinations)
        self.things = None if classes is None else [_thing(name) for name in classes]
        self.renderer = SceneRenderer(
            image_size, Style(diameters=_DIAMETERS, min_contrast=60.0, max_overlap=0.1)
        )
        super().__init__(
            metainfo={} if classes is None else {"classes": tuple(classes)},
            serialize_data=False,
            pipeline=list(pipeline),
            test_mode=test_mode,
            lazy_init=lazy_init,
        )

    def sample(self, index: int) -> tuple[np.ndarray, str]:
        """Picture ``index``, (H, W, 3) uint8 RGB, and its caption."""
        rng = np.random.default_rng((self.seed, index))
        if self.things is not None:
            place = index % len(self.things)
            name, thing = self.metainfo["classes"][place], self.things[place]
            if isinstance(thing, str):
                image = draw_garment(rng, self.image_size, thing).image
            else:
                image, _ = self._draw([thing], rng)
            return image, TEMPLATE.format(name)
        if rng.random() < self.clothes:
            picture = draw_garment(rng, self.image_size)
            image, caption = picture.image, garment_caption(picture, rng, self.name_alone)
        else:
            count = int(rng.integers(1, self.max_objects + 1)) if rng.random() < 0.5 else 1
            image, objects = self._draw(related_concepts(self.kinds, count, rng), rng)
            caption = things_caption(objects, rng, max(0.1, self.name_alone - 0.2))
        return (image[:, ::-1] if rng.random() < 0.5 else image), caption

    def _draw(
        self, concepts: Sequence[Concept], rng: np.random.Generator
    ) -> tuple[np.ndarray, Sequence[Concept]]:
        """A scene in which at least one object found its place."""
        while True:
            scene = self.renderer.render(concepts, rng)
            if scene.objects:
                return scene.image, scene.objects

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Sample ``idx`` before the pipeline.

        Args:
            idx: position in the dataset.

        Returns:
            A results dict as after MMPreTrain's loading transforms.
        """
        if not self._fully_initialized:
            self.full_init()
        index = self.data_list[idx]
        image, caption = self.sample(index)
        shape = image.shape[:2]
        info = {
            "img": np.ascontiguousarray(image[..., ::-1]),
            "img_path": f"caption_pair_{self.seed}_{index}.png",
            "img_shape": shape,
            "ori_shape": shape,
            "sample_idx": idx,
            "caption": caption,
        }
        if self.things is not None:
            info["gt_label"] = index % len(self.things)
        return info

    def get_gt_labels(self) -> np.ndarray:
        """The label of every sample, (N,), as MMPreTrain's data sets have it; for ``classes``."""
        if self.things is None:
            raise InputError("captions have no labels: give classes")
        if not self._fully_initialized:
            self.full_init()
        return np.asarray(self.data_list) % len(self.things)


def _kinds(which: str) -> tuple[Concept, ...]:
    return combinations(which)


def _thing(name: str) -> str | Concept:
    """The kind of garment, or the combination of the procedural world, that a class names."""
    if name in GARMENTS:
        return name
    for kind, (_, names, _) in GARMENTS.items():
        if names[0] == name:
            return kind
    try:
        concept = parse_phrase(name)
    except ValueError as error:
        raise InputError(
            f"{name!r} is not a kind of garment {tuple(GARMENTS)}, and {error}"
        ) from None
    if None in (concept.shape, concept.colour, concept.texture):
        raise InputError(f"the class {name!r} must name a texture, a colour and a shape")
    return concept
