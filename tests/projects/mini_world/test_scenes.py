"""The procedural world, its pictures and the grounded samples made of them."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from mmdet.datasets.transforms import PackDetInputs
from mmdet.evaluation import CocoMetric
from mmdet.structures.bbox import HorizontalBoxes

from projects.mini_world import (
    Concept,
    SceneGroundingDataset,
    SceneRenderer,
    Style,
    held_out_combinations,
    matches,
    parse_phrase,
    seen_combinations,
)
from projects.mini_world.backgrounds import ALL_BACKGROUNDS
from projects.mini_world.sprites import PALETTE, draw_sprite
from projects.mini_world.world import COLOURS, DIAMETERS, NEW_SHAPES, SHAPES, TEXTURES

SAMPLES = 120


def words_match(phrase: str, thing: Concept) -> bool:
    """Oracle: a phrase matches a thing when the thing has every word of the phrase."""
    has = {thing.shape, thing.colour, thing.texture, thing.size, "object"}
    return set(phrase.split()) <= has


def kind_of(thing: Concept) -> tuple:
    return thing.shape, thing.colour, thing.texture


@pytest.fixture(scope="module")
def drawn():
    """(scene, phrases, labels) of the first samples of a dataset."""
    dataset = SceneGroundingDataset(num_samples=SAMPLES, seed=7)
    return [dataset.sample(index) for index in range(SAMPLES)]


def test_a_fifth_of_the_combinations_is_held_out_and_no_pair_of_attributes_is_new():
    seen, held_out = seen_combinations(), held_out_combinations()
    assert not set(seen) & set(held_out)
    assert len(seen) + len(held_out) == len(SHAPES) * len(COLOURS) * len(TEXTURES)
    assert len(held_out) / len(seen + held_out) == pytest.approx(0.2)
    for values, others in itertools.combinations((0, 1, 2), 2):
        pairs = {(kind_of(kind)[values], kind_of(kind)[others]) for kind in seen}
        every = {(kind_of(kind)[values], kind_of(kind)[others]) for kind in seen + held_out}
        assert pairs == every


def test_a_phrase_and_its_concept_are_each_others_inverse():
    concept = Concept("star", "blue", "striped", "large")
    assert concept.phrase == "large striped blue star"
    for size in range(5):
        for names in itertools.combinations(("shape", "colour", "texture", "size"), size):
            part = Concept(**{name: getattr(concept, name) for name in names})
            assert parse_phrase(part.phrase) == part
            assert matches(part, concept) and words_match(part.phrase, concept)


@pytest.mark.parametrize("phrase", ["blue", "star blue", "blue red star", "blue zorb", ""])
def test_a_phrase_outside_the_vocabulary_is_refused(phrase):
    with pytest.raises(ValueError, match="phrase"):
        parse_phrase(phrase)


def test_colours_cannot_be_mistaken_for_each_other_whatever_the_jitter():
    most = 2 * Style().colour_jitter * np.sqrt(3)
    for (first, _), (second, _) in itertools.combinations(PALETTE.values(), 2):
        assert np.linalg.norm(np.subtract(first, second)) > 2 * most


@pytest.mark.parametrize("shape", (*SHAPES, *NEW_SHAPES))
def test_boxes_are_tight_to_one_pixel(shape):
    style = replace(
        Style(), backgrounds=("flat",), noise=0.0, shading=0.0, shadow=0.0, blur=0.0, light=(1, 1)
    )
    renderer = SceneRenderer(224, style)
    checked = 0
    for size, seed in itertools.product(("small", "large"), range(3)):
        rng = np.random.default_rng(seed)
        scene = renderer.render([Concept(shape, "red", "plain", size)], rng)
        if not scene.objects:
            continue
        image = scene.image.astype(float)
        # Most of the rim is background; a pixel of the object is nearer to the fill than to it.
        background = np.median(
            np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]]), axis=0
        )
        fill = np.array(PALETTE["red"][0])
        is_object = np.linalg.norm(image - fill, axis=2) < np.linalg.norm(
            image - background, axis=2
        )
        ys, xs = np.nonzero(is_object)
        expected = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
        assert np.abs(scene.boxes[0] - expected).max() <= 1
        checked += 1
    assert checked >= 3


def test_boxes_lie_inside_the_picture_and_have_the_size_their_name_says(drawn):
    for scene, _, _ in drawn:
        assert scene.image.shape == (224, 224, 3) and scene.image.dtype == np.uint8
        assert scene.boxes.shape == (len(scene.objects), 4) and len(scene.objects) > 0
        assert scene.boxes.min() >= 0 and scene.boxes.max() <= 224
        sides = (scene.boxes[:, 2:] - scene.boxes[:, :2]).max(axis=1)
        for thing, side in zip(scene.objects, sides, strict=True):
            # Rotated by at most 25 degrees, a square is up to 1.33 times as wide as its side, and a
            # thin shape a little shorter than its diameter.
            low, high = DIAMETERS[thing.size]
            assert 0.75 * low <= side <= 1.35 * high


def test_objects_overlap_little(drawn):
    for scene, _, _ in drawn:
        for first, second in itertools.combinations(scene.boxes, 2):
            sides = np.clip(np.minimum(first, second)[2:] - np.maximum(first, second)[:2], 0, None)
            smaller = min(np.prod(first[2:] - first[:2]), np.prod(second[2:] - second[:2]))
            assert sides.prod() / smaller <= Style().max_overlap + 1e-6


def test_textures_differ_in_the_picture():
    pictures = [
        draw_sprite(
            Concept("square", "red", texture),
            PALETTE["red"],
            24,
            0.0,
            0.0,
            np.random.default_rng(0),
        )
        for texture in TEXTURES
    ]
    for first, second in itertools.combinations(pictures, 2):
        assert np.abs(first.colour - second.colour).mean() > 10


@pytest.mark.parametrize("name", ALL_BACKGROUNDS)
def test_every_background_fills_the_picture(name):
    image = ALL_BACKGROUNDS[name](np.random.default_rng(1), 64)
    assert image.shape == (64, 64, 3) and np.isfinite(image).all()


def test_objects_that_cannot_fit_are_refused_with_the_size_that_would_do():
    with pytest.raises(ValueError, match="image size of at least 156"):
        SceneRenderer(image_size=96)


def test_each_object_is_matched_by_exactly_one_phrase_and_its_label_is_that_phrase(drawn):
    for scene, phrases, labels in drawn:
        for thing, label in zip(scene.objects, labels, strict=True):
            assert [n for n, phrase in enumerate(phrases) if words_match(phrase.phrase, thing)] == [
                label
            ]


def test_phrases_never_depend_on_a_size_between_small_and_large(drawn):
    for scene, phrases, _ in drawn:
        for phrase, thing in itertools.product(phrases, scene.objects):
            if phrase.size is not None and thing.size == "medium":
                assert not words_match(phrase.kind.phrase, thing)


def test_captions_vary_in_length_and_detail_and_hold_negatives(drawn):
    lengths = {len(phrases) for _, phrases, _ in drawn}
    words = {len(phrase.phrase.split()) for _, phrases, _ in drawn for phrase in phrases}
    negatives = sum(len(phrases) - len(set(labels)) for _, phrases, labels in drawn)
    assert min(lengths) == 3 and max(lengths) == 10
    assert words == {1, 2, 3, 4}
    assert negatives > SAMPLES
    assert all(len(set(phrases)) == len(phrases) for _, phrases, _ in drawn)
    # The order gives nothing away: positives also come last.
    assert any(len(phrases) - 1 in labels and 0 not in labels for _, phrases, labels in drawn)


def test_pretraining_neither_draws_nor_names_a_held_out_combination(drawn):
    held_out = {kind_of(kind) for kind in held_out_combinations()}
    for scene, phrases, _ in drawn:
        assert not held_out & {kind_of(thing) for thing in scene.objects}
        assert not held_out & {kind_of(phrase) for phrase in phrases}
    dataset = SceneGroundingDataset(num_samples=20, combinations="held_out")
    assert all(
        kind_of(thing) in held_out
        for index in range(20)
        for thing in dataset.sample(index)[0].objects
    )


def test_a_sample_depends_on_its_number_and_the_seed_only():
    first, second = (SceneGroundingDataset(num_samples=count, seed=3) for count in (10, 1000))
    third = SceneGroundingDataset(num_samples=10, seed=4)
    first[9]
    one, same, other = first[5], second[5], third[5]
    assert np.array_equal(one["img"], same["img"]) and one["text"] == same["text"]
    assert one["instances"] == same["instances"]
    assert not np.array_equal(one["img"], other["img"])
    assert not np.array_equal(one["img"], first[6]["img"])


def test_samples_can_be_packed_for_glip():
    pack = PackDetInputs(
        meta_keys=("img_id", "ori_shape", "img_shape", "scale_factor", "text", "custom_entities")
    )
    dataset = SceneGroundingDataset(num_samples=5, pipeline=[pack])
    assert len(dataset) == 5
    packed = dataset[2]
    sample = packed["data_samples"]
    assert packed["inputs"].shape == (3, 224, 224)
    assert isinstance(sample.text, tuple) and sample.custom_entities is True
    assert isinstance(sample.gt_instances.bboxes, HorizontalBoxes)
    assert len(sample.gt_instances.bboxes) == len(sample.gt_instances.labels) > 0
    assert sample.gt_instances.labels.max() < len(sample.text)


def test_images_have_opencvs_channel_order():
    dataset = SceneGroundingDataset(num_samples=1)
    scene = dataset.sample(0)[0]
    assert np.array_equal(dataset[0]["img"][..., ::-1], scene.image)


def test_a_subset_holds_the_chosen_samples():
    dataset = SceneGroundingDataset(num_samples=50)
    subset = dataset.get_subset([4, 40])
    assert [subset[n]["img_id"] for n in range(len(subset))] == [4, 40]


def test_with_fixed_classes_a_perfect_detector_scores_one():
    classes = tuple(kind.phrase for kind in held_out_combinations()[::12])
    pack = PackDetInputs(meta_keys=("img_id", "ori_shape", "text", "instances"))
    dataset = SceneGroundingDataset(40, combinations="held_out", classes=classes, pipeline=[pack])
    assert dataset.metainfo["classes"] == classes
    metric = CocoMetric(metric="bbox", classwise=False)
    metric.dataset_meta = dataset.metainfo
    for item in dataset:
        sample = item["data_samples"]
        assert sample.text == classes
        truth = sample.gt_instances
        boxes = truth.bboxes.tensor
        predicted = {"bboxes": boxes, "labels": truth.labels, "scores": boxes.new_ones(len(boxes))}
        metric.process({}, [{**sample.metainfo, "pred_instances": predicted}])
    assert metric.evaluate(size=len(dataset))["coco/bbox_mAP"] == pytest.approx(1.0)


def test_classes_that_can_never_be_drawn_are_refused():
    phrase = held_out_combinations()[0].phrase
    with pytest.raises(ValueError, match=phrase):
        SceneGroundingDataset(10, combinations="seen", classes=(phrase, "blue star"))
    with pytest.raises(ValueError, match="blue star"):
        SceneGroundingDataset(10, classes=("star", "blue star"))
    with pytest.raises(ValueError, match="held_out"):
        SceneGroundingDataset(10, combinations="none")
