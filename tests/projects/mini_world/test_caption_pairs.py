"""Drawn pictures with captions: reproducible, true, and named in the words of the tasks."""

from __future__ import annotations

import re

import numpy as np
import pytest

from mmsdpt.hosts.clip import CLIPTokenizer
from mmsdpt.utils.errors import InputError
from projects.mini_world import Concept, SceneCaptionDataset, held_out_combinations
from projects.mini_world.caption_pairs import garment_caption, things_caption
from projects.mini_world.garments import FABRIC_COLOURS, FABRICS, GARMENTS, draw_garment
from projects.mini_world.world import COLOURS, SHAPES, TEXTURES

CLOTHING = (
    "dress", "hat", "longsleeve", "outwear", "pants",
    "shirt", "shoes", "shorts", "skirt", "t-shirt",
)  # fmt: skip


def words_of(caption: str) -> set[str]:
    return set(re.findall(r"[a-z-]+", caption))


@pytest.fixture(scope="module")
def pairs():
    dataset = SceneCaptionDataset(num_samples=300, seed=3)
    return [dataset.sample(index) for index in range(300)]


def test_a_sample_depends_on_seed_and_index_alone(pairs):
    again = SceneCaptionDataset(num_samples=300, seed=3)
    other = SceneCaptionDataset(num_samples=300, seed=4)
    for index in (299, 7, 0):
        image, caption = again.sample(index)
        assert caption == pairs[index][1]
        assert (image == pairs[index][0]).all()
        assert (other.sample(index)[0] != image).any()


def test_pictures_are_rgb_bytes_and_no_two_are_alike(pairs):
    for image, _ in pairs:
        assert image.shape == (64, 64, 3) and image.dtype == np.uint8
    assert len({image.tobytes() for image, _ in pairs}) == len(pairs)


def test_the_dataset_gives_bgr_and_the_caption_to_the_pipeline(pairs):
    dataset = SceneCaptionDataset(num_samples=300, seed=3)
    result = dataset[5]
    assert (result["img"][..., ::-1] == pairs[5][0]).all()
    assert result["caption"] == pairs[5][1]
    assert "gt_label" not in result
    assert len(dataset) == 300


def test_the_share_of_clothes_is_kept():
    shapes = set(SHAPES) | {shape + "s" for shape in SHAPES} | {"crosses", "object", "objects"}
    none = SceneCaptionDataset(num_samples=60, clothes=0.0)
    assert all(words_of(none.sample(index)[1]) & shapes for index in range(60))
    only = SceneCaptionDataset(num_samples=60, clothes=1.0)
    assert not any(words_of(only.sample(index)[1]) & shapes for index in range(60))


def test_captions_of_things_name_each_with_its_number():
    rng = np.random.default_rng(0)
    star, moon = (
        Concept("star", "blue", "dotted", "large"),
        Concept("moon", "red", "plain", "small"),
    )
    for _ in range(50):
        caption = things_caption([star, star, moon], rng)
        assert "two " in caption and "stars" in caption or "objects" in caption
        assert not words_of(caption) & (set(COLOURS) - {"blue", "red"})
        assert not words_of(caption) & (set(TEXTURES) - {"dotted", "plain"})


def test_captions_of_clothes_say_only_what_is_drawn():
    rng = np.random.default_rng(0)
    colours = {name for name in FABRIC_COLOURS if " " not in name}
    for kind, (_, names, _) in GARMENTS.items():
        for _ in range(6):
            picture = draw_garment(rng, 64, kind)
            caption = garment_caption(picture, rng)
            assert any(name in caption for name in names)
            named = words_of(caption)
            assert not named & (set(FABRICS) - {picture.fabric})
            assert not named & (colours - set(picture.colour.split()))
            assert picture.printed or "print" not in named


def test_held_out_combinations_are_never_drawn_or_named():
    dataset = SceneCaptionDataset(num_samples=400, seed=1, clothes=0.0, max_objects=1)
    held_out = {concept.phrase for concept in held_out_combinations()}
    captions = " ".join(dataset.sample(index)[1] for index in range(400))
    assert not any(phrase in captions for phrase in held_out)
    assert not {kind.phrase for kind in dataset.kinds} & held_out


def test_the_words_of_the_clothing_task_are_used(pairs):
    dataset = SceneCaptionDataset(600, seed=5, clothes=1.0)
    captions = {dataset.sample(index)[1] for index in range(600)}
    for name in CLOTHING:
        assert f"a photo of a {name}." in captions


def test_every_caption_fits_beside_sixteen_tokens_of_context(pairs):
    tokenizer = CLIPTokenizer("mmsdpt://mini_clip")
    assert max(len(tokenizer.encode(caption)) for _, caption in pairs) <= 77 - 2 - 16


def test_with_classes_each_sample_shows_its_own():
    classes = ("striped blue star", "t-shirt", "hat")
    dataset = SceneCaptionDataset(num_samples=9, classes=classes)
    assert dataset.metainfo["classes"] == classes
    for index in range(9):
        result = dataset[index]
        assert result["gt_label"] == index % 3
        assert result["caption"] == f"a photo of a {classes[index % 3]}."


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (dict(classes=["spaceship"]), "spaceship"),
        (dict(classes=["blue star"]), "must name a texture"),
        (dict(max_objects=9), "max_objects"),
        (dict(clothes=1.5), "clothes"),
    ],
)
def test_arguments_that_cannot_be_met_are_refused_by_name(arguments, part):
    with pytest.raises(InputError, match=part):
        SceneCaptionDataset(num_samples=1, **arguments)


@pytest.mark.parametrize("kind", GARMENTS)
def test_every_garment_is_visible_at_any_size(kind):
    for size in (64, 96):
        picture = draw_garment(np.random.default_rng(1), size, kind)
        assert picture.image.shape == (size, size, 3)
        assert picture.image.std() > 8
