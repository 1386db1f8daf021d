"""Promises of SampleCaptionClasses: a short caption that tells the truth about its image."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmdet.datasets import LVISV1Dataset
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.registry import init_default_scope

import mmsdpt.hosts  # noqa: F401
from mmsdpt.datasets import SampleCaptionClasses
from mmsdpt.registry import MODELS, TRANSFORMS

CLASSES = tuple(f"thing {number}" for number in range(30))
META_KEYS = ("img_id", "img_shape", "scale_factor", "text", "custom_entities")


@pytest.fixture(autouse=True)
def _seed():
    np.random.seed(0)


def make_results(labels, classes=CLASSES) -> dict:
    """Results of the loaders: box i is [i, i, i + 20, i + 30]."""
    count = len(labels)
    corner = torch.arange(count, dtype=torch.float32)[:, None].expand(-1, 2)
    return dict(
        text=classes,
        gt_bboxes=HorizontalBoxes(torch.cat([corner, corner + torch.tensor([20.0, 30.0])], 1)),
        gt_bboxes_labels=np.array(labels, dtype=np.int64),
        gt_ignore_flags=np.arange(count) % 2 == 1,
    )


def names_of(results: dict) -> list[str]:
    return [results["text"][label] for label in results["gt_bboxes_labels"]]


def test_every_class_of_the_image_stays_and_every_box_keeps_its_name():
    labels = [3, 17, 3, 29, 0]
    for _ in range(50):
        results = SampleCaptionClasses(6).transform(make_results(labels))
        assert names_of(results) == [CLASSES[label] for label in labels]
        assert len(results["gt_bboxes"]) == len(results["gt_ignore_flags"]) == 5
        assert results["custom_entities"] is True


def test_absent_classes_fill_the_caption_up_without_repetition():
    labels = [3, 17, 3]
    drawn = set()
    for _ in range(100):
        text = SampleCaptionClasses(6).transform(make_results(labels))["text"]
        assert isinstance(text, tuple) and len(text) == len(set(text)) == 6
        drawn.update(text)
    # All 30 come up: 4 of 28 in each of 100 draws.
    assert drawn == set(CLASSES)


def test_the_order_is_random_so_that_no_place_means_present():
    places = [
        SampleCaptionClasses(6).transform(make_results([3]))["gt_bboxes_labels"][0]
        for _ in range(600)
    ]
    counts = np.bincount(places, minlength=6)
    assert len(counts) == 6 and counts.min() > 60


def test_the_draw_follows_numpys_seed():
    drawn = []
    for seed in (5, 5, 6):
        np.random.seed(seed)
        drawn.append(SampleCaptionClasses(6).transform(make_results([3, 4]))["text"])
    assert drawn[0] == drawn[1] != drawn[2]


def test_boxes_of_classes_beyond_the_caption_leave_with_their_flags_and_masks():
    labels = list(range(8)) * 2
    kept_classes = set()
    for _ in range(50):
        results = make_results(labels)
        results["gt_masks"] = BitmapMasks(
            np.stack([np.full((4, 4), i, np.uint8) for i in range(16)]), 4, 4
        )
        results = SampleCaptionClasses(5).transform(results)
        assert len(results["text"]) == 5
        boxes = results["gt_bboxes"].tensor[:, 0].int().tolist()
        assert len(boxes) == 10
        assert names_of(results) == [CLASSES[labels[i]] for i in boxes]
        assert results["gt_ignore_flags"].tolist() == [i % 2 == 1 for i in boxes]
        assert results["gt_masks"].masks[:, 0, 0].tolist() == boxes
        kept_classes.update(results["text"])
    # Which classes stay is drawn, too.
    assert kept_classes == set(CLASSES[:8])


def test_an_image_without_boxes_gets_absent_classes_only():
    results = SampleCaptionClasses(4).transform(make_results([]))
    assert len(results["text"]) == 4
    assert results["gt_bboxes_labels"].shape == (0,)
    assert len(results["gt_bboxes"]) == 0


def test_a_short_class_list_is_kept_whole_in_random_order():
    orders = {SampleCaptionClasses(40).transform(make_results([1, 2]))["text"] for _ in range(5)}
    assert all(sorted(order) == sorted(CLASSES) for order in orders)
    assert len(orders) > 1


def test_a_caption_needs_room_for_a_class():
    with pytest.raises(ValueError, match="max_classes must be at least 1, got 0"):
        SampleCaptionClasses(0)


def test_forty_lvis_names_fit_into_256_tokens():
    """Counted without BERT's vocabulary, and from above: three letters to a token, where English
    has more than four, and a token for every sign.
    """
    classes = LVISV1Dataset.METAINFO["classes"]
    assert len(classes) == 1203

    def tokens(name: str) -> int:
        # GLIP drops what stands in parentheses and reads underscores as spaces.
        words = re.findall(r"\w+|[^\w\s]", re.sub(r"\(.*\)", "", name).replace("_", " "))
        return sum(-(-len(word) // 3) for word in words)

    costs = {name: tokens(name) + 1 for name in classes}  # and the dot
    transform = SampleCaptionClasses(40)
    longest = max(
        2
        + sum(costs[name] for name in transform.transform(make_results([5, 700], classes))["text"])
        for _ in range(2000)
    )
    assert 150 < longest <= 256


@pytest.fixture(scope="module")
def model(repository):
    init_default_scope("mmdet")
    torch.manual_seed(0)
    cfg = Config.fromfile(repository / "configs/_base_/models/mini_glip.py")
    return MODELS.build(cfg.model)


def test_glip_takes_the_sampled_captions_and_teaches_each_box_its_own_words(model):
    pipeline = Compose(
        [
            TRANSFORMS.build(dict(type="mmsdpt.SampleCaptionClasses", max_classes=6)),
            TRANSFORMS.build(dict(type="PackDetInputs", meta_keys=META_KEYS)),
        ]
    )
    labels = ([3, 17, 3], [29], list(range(8)))
    inputs, samples = [], []
    for number, image_labels in enumerate(labels):
        results = make_results(image_labels)
        results["gt_ignore_flags"][:] = False
        pixels = np.random.randint(0, 255, (64, 64, 3), dtype=np.uint8)
        packed = pipeline(
            dict(results, img=pixels, img_id=number, img_shape=(64, 64), scale_factor=(1.0, 1.0))
        )
        inputs.append(packed["inputs"])
        samples.append(packed["data_samples"])
    assert len({sample.text for sample in samples}) == 3

    data = model.data_preprocessor(dict(inputs=inputs, data_samples=samples), True)
    model.train()
    losses = model(**data, mode="loss")
    total, _ = model.parse_losses(losses)
    assert torch.isfinite(total) and total > 0
    total.backward()

    tokenizer = model.language_model.tokenizer
    for sample in data["data_samples"]:
        tokens = tokenizer(model.class_prompt(sample.text)[0]).input_ids
        maps = sample.gt_instances.positive_maps
        assert len(maps) == len(sample.gt_instances.labels) > 0
        for positive, label in zip(maps, sample.gt_instances.labels.tolist(), strict=True):
            words = [tokens[i] for i in positive.nonzero().flatten().tolist()]
            assert tokenizer.decode(words) == sample.text[label]
