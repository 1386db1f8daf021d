"""Promises of SampleCaptionClasses: a short caption that tells the truth about its image."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmdet.datasets import LVISV1Dataset
from mmdet.models.detectors.glip import clean_label_name
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.registry import init_default_scope

import mmsdpt.hosts  # noqa: F401
from mmsdpt.datasets import LVISDataset, SampleCaptionClasses
from mmsdpt.registry import MODELS, TRANSFORMS
from mmsdpt.utils.errors import InputError

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


def test_what_the_image_is_known_not_to_show_comes_first():
    known = np.array([7, 8, 21])
    for _ in range(30):
        results = dict(make_results([3, 17, 3]), negative_labels=known)
        text = SampleCaptionClasses(6).transform(results)["text"]
        assert {CLASSES[i] for i in (3, 17, *known)} <= set(text)


def test_frequent_classes_are_negatives_more_often_as_the_root_of_their_images():
    counts = np.full(30, 4)
    counts[:10], counts[29] = 100, 0
    drawn = np.zeros(30)
    for _ in range(4000):
        results = dict(make_results([29]), class_counts=counts)
        results["gt_bboxes_labels"][:] = 28
        text = SampleCaptionClasses(2).transform(results)["text"]
        drawn[[CLASSES.index(name) for name in text if name != CLASSES[28]]] += 1
    assert drawn.sum() == 4000 and drawn[28] == drawn[29] == 0
    # Ten classes of weight 10, eighteen of weight 2.
    assert drawn[:10].sum() / 4000 == pytest.approx(100 / 136, abs=0.025)


def test_a_caption_never_has_more_tokens_than_it_may(model):
    """As many classes as fit, counted as the model counts."""
    classes = LVISV1Dataset.METAINFO["classes"]
    assert len(classes) == 1203
    tokenizer = model.language_model.tokenizer
    lengths = []
    for limit in (40, 100, 256):
        transform = SampleCaptionClasses(1000, limit, "mmsdpt://mini_bert")
        for _ in range(10):
            results = transform.transform(make_results([5, 700], classes))
            text = results["text"]
            assert {classes[5], classes[700]} <= set(text)
            caption = ". ".join(clean_label_name(name) for name in text) + ". "
            tokens = len(tokenizer(caption).input_ids)
            lengths.append(limit - tokens)
            assert tokens <= limit
    assert min(lengths) == 0 and np.mean(lengths) < 8  # the next name would not have fit


def test_lvis_files_of_ones_own_name_images_as_coco_does(tmp_path):
    image = dict(id=4, width=50, height=40, neg_category_ids=[], not_exhaustive_category_ids=[])
    box = dict(id=1, image_id=4, category_id=7, bbox=[1, 1, 9, 9], area=81)
    content = dict(categories=[dict(id=7, name="thing", frequency="c")])
    file = tmp_path / "lvis.json"
    init_default_scope("mmdet")

    def dataset(boxes=1, **name):
        content.update(images=[dict(image, **name)], annotations=[box] * boxes)
        file.write_text(json.dumps(content))
        folder, classes = dict(img="photos/"), dict(classes=("thing",))
        return LVISDataset(
            ann_file=str(file), metainfo=classes, data_prefix=folder, pipeline=[]
        ).get_data_info(0)

    for name in (
        dict(file_name="a.jpg"),
        dict(file_name="a.jpg", coco_url=""),
        dict(file_name="a.jpg", coco_url="https://example.org/1"),
        dict(coco_url="https://images.cocodataset.org/a.jpg"),
    ):
        found = dataset(**name)
        assert found["img_path"] == "photos/a.jpg" and len(found["instances"]) == 1
    with pytest.raises(InputError, match="image with id 4 has neither coco_url nor file_name"):
        dataset()
    with pytest.raises(InputError, match="annotation ids are repeated"):
        dataset(boxes=2, file_name="a.jpg")


def test_lvis_images_bring_what_they_are_known_not_to_show(tmp_path):
    categories = [dict(id=i, name=f"thing {i}", frequency="c") for i in (2, 5, 9)]
    images = [
        dict(
            id=i,
            width=50,
            height=40,
            coco_url=f"http://images.cocodataset.org/train2017/{i}.jpg",
            neg_category_ids=[9, 2][:i],
            not_exhaustive_category_ids=[],
        )
        for i in range(3)
    ]
    boxes = [
        dict(id=i, image_id=image, category_id=category, bbox=[1, 1, 9, 9], area=81)
        for i, (image, category) in enumerate([(0, 2), (0, 2), (1, 2), (2, 5)], start=1)
    ]
    file = tmp_path / "lvis.json"
    file.write_text(json.dumps(dict(images=images, annotations=boxes, categories=categories)))
    init_default_scope("mmdet")
    names = tuple(each["name"] for each in categories)
    settings = dict(ann_file=str(file), data_prefix=dict(img=""), return_classes=True, pipeline=[])
    dataset = LVISDataset(metainfo=dict(classes=names), **settings)
    for other in ({}, dict(metainfo=dict(classes=names[:2]))):
        with pytest.raises(InputError, match=r"lvis.json has 3 categories, but the dataset"):
            LVISDataset(**other, **settings)
    found = [dataset.get_data_info(i) for i in range(3)]
    assert [info["negative_labels"].tolist() for info in found] == [[], [2], [2, 0]]
    assert all(info["class_counts"].tolist() == [2, 1, 0] for info in found)
    assert all(info["text"] == names and info["custom_entities"] for info in found)
    assert [[box["bbox_label"] for box in info["instances"]] for info in found] == [
        [0, 0],
        [0],
        [1],
    ]
    assert "text" not in dataset.parse_data_info(
        dict(raw_img_info=dict(images[0], img_id=0, file_name="0.jpg"), raw_ann_info=[])
    )


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
