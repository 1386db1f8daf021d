"""FewShotDataset chooses what GLIP's protocol chooses, by ids, labels and seed alone."""

import json
import logging
import random
from pathlib import Path

import pytest
from mmdet.datasets import CocoDataset
from mmengine.dataset import RepeatDataset
from mmengine.logging import MMLogger

from mmsdpt.datasets.converters import convert_yolo
from mmsdpt.datasets.few_shot import ODINW_SCHEDULE, ODINW_SEEDS, FewShotDataset
from mmsdpt.registry import DATASETS

CLASSES = ("cat", "dog", "emu")


def content(images: dict[int, list[int]], order: list[int] | None = None) -> dict:
    """COCO content with boxes of the given category ids (1..3) per image id."""
    annotations = []
    for image_id, categories in images.items():
        for category in categories:
            box = [2.0, 2.0, 10.0, 10.0]
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image_id,
                    category_id=category,
                    bbox=box,
                    area=100.0,
                )
            )
    return dict(
        images=[dict(id=i, file_name=f"{i}.jpg", width=40, height=30) for i in order or images],
        annotations=annotations,
        categories=[dict(id=k, name=name) for k, name in enumerate(CLASSES, start=1)],
    )


def world(number: int = 60, seed: int = 0) -> dict[int, list[int]]:
    rng = random.Random(seed)
    return {
        i: [c for c in rng.choices((1, 1, 1, 2, 3), k=rng.randint(0, 4))]
        for i in range(1, number + 1)
    }


def dataset(tmp_path: Path, data: dict) -> CocoDataset:
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}.json"
    path.write_text(json.dumps(data))
    return CocoDataset(
        ann_file=str(path),
        data_prefix=dict(img=""),
        metainfo=dict(classes=CLASSES),
        pipeline=[],
        # Serializing collects garbage, which takes long in a process that holds torch.
        serialize_data=False,
    )


def ids(data: FewShotDataset) -> list[int]:
    return [data.get_data_info(i)["img_id"] for i in range(len(data))]


def glip_reference(
    images: dict[int, list[int]], shots: int, seed: int, by_box: bool = False
) -> list[int]:
    """GLIP's maskrcnn_benchmark/data/datasets/coco.py; ``by_box`` is the ``tuple`` of its
    comment.
    """
    order = [i for i in sorted(images) if images[i]]
    random.Random(seed).shuffle(order)
    remaining = [shots] * len(CLASSES)
    kept = []
    for i in order:
        categories = tuple(images[i]) if by_box else set(images[i])
        if sum(remaining[c - 1] > 0 for c in categories):
            kept.append(i)
            for c in categories:
                remaining[c - 1] -= 1
    return kept


@pytest.mark.parametrize("seed", ODINW_SEEDS)
@pytest.mark.parametrize("shots", [1, 3, 5, 10])
def test_the_choice_is_that_of_glips_code(tmp_path, shots, seed):
    images = world()
    base = dataset(tmp_path, content(images))
    assert ids(FewShotDataset(base, shots, seed=seed)) == glip_reference(images, shots, seed)
    by_box = FewShotDataset(base, shots, seed=seed, count="box")
    assert ids(by_box) == glip_reference(images, shots, seed, by_box=True)


def test_every_category_gets_its_shots_and_no_image_is_idle(tmp_path):
    images = world()
    chosen = ids(FewShotDataset(dataset(tmp_path, content(images)), 3))
    for category in (1, 2, 3):
        assert sum(category in images[i] for i in chosen) >= 3
    met = {1: 0, 2: 0, 3: 0}
    for i in chosen:
        assert any(met[c] < 3 for c in images[i])
        for c in set(images[i]):
            met[c] += 1


def test_the_order_of_the_annotation_file_does_not_matter(tmp_path):
    images = world()
    order = list(images)
    random.Random(9).shuffle(order)
    straight = FewShotDataset(dataset(tmp_path, content(images)), 3, seed=30)
    shuffled = FewShotDataset(dataset(tmp_path, content(images, order)), 3, seed=30)
    assert ids(straight) == ids(shuffled)
    assert ids(straight) != ids(FewShotDataset(dataset(tmp_path, content(images)), 3, seed=300))
    assert ids(FewShotDataset(dataset(tmp_path, content(images)), 3, seed=None))[0] == min(
        i for i in images if images[i]
    )


def test_the_choice_is_known_and_the_same_in_every_run(tmp_path):
    # Written down, and with names as ids, whose hashes change from run to run.
    data = content({i: [i % 3 + 1] for i in range(30)})
    for entry in data["images"]:
        entry["id"] = f"img{entry['id']:02}"
    for entry in data["annotations"]:
        entry["image_id"] = f"img{entry['image_id']:02}"
    assert ids(FewShotDataset(dataset(tmp_path, data), 1, seed=3)) == ["img26", "img21", "img10"]


def test_images_without_usable_boxes_do_not_move_the_shuffle(tmp_path):
    images = world()
    boxed = {i: categories for i, categories in images.items() if categories}
    assert len(boxed) < len(images)
    data = content(images)
    data["annotations"].append(
        dict(
            id=9999,
            image_id=next(i for i in images if not images[i]),
            category_id=1,
            bbox=[1, 1, 1, 9],
            area=9,
            iscrowd=0,
        )
    )
    assert ids(FewShotDataset(dataset(tmp_path, data), 3)) == ids(
        FewShotDataset(dataset(tmp_path, content(boxed)), 3)
    )


def test_ignored_boxes_give_no_shot(tmp_path):
    data = content({1: [1], 2: [1]})
    data["annotations"][0]["iscrowd"] = 1
    for seed in range(4):
        assert ids(FewShotDataset(dataset(tmp_path, data), 1, seed=seed)) == [2]


def test_copies_repeat_the_selection(tmp_path):
    base = dataset(tmp_path, content(world()))
    once = FewShotDataset(base, 1, copies=1)
    data = FewShotDataset(base, 1, copies=8)
    assert len(data) == 8 * len(once) and ids(data) == ids(once) * 8
    assert data.get_cat_ids(len(once)) == once.get_cat_ids(0)
    assert data[len(once)]["img_id"] == once[0]["img_id"] == data[-len(once)]["img_id"]
    with pytest.raises(IndexError):
        data[len(data)]


def test_zero_shots_are_the_full_data(tmp_path):
    images = world()
    assert ids(FewShotDataset(dataset(tmp_path, content(images)), 0)) == list(images)


def test_max_images_stops_the_walk(tmp_path):
    base = dataset(tmp_path, content(world()))
    assert ids(FewShotDataset(base, 5, max_images=2)) == ids(FewShotDataset(base, 5))[:2]
    assert len(FewShotDataset(base, 0, max_images=7)) == 7


def test_a_broken_image_is_never_replaced_by_one_outside_the_selection(tmp_path):
    images = world()
    base = dataset(tmp_path, content(images))
    broken = glip_reference(images, 1, 3)[0]
    base.pipeline = lambda info: None if info["img_id"] == broken else info
    data = FewShotDataset(base, 1, seed=3)
    chosen = set(ids(data))
    assert {data[0]["img_id"] for _ in range(40)} == chosen - {broken}
    assert len(base) == len(images), "the wrapped dataset itself stays whole"


def test_rare_categories_are_warned_about_and_the_choice_is_logged(tmp_path):
    lines: list[tuple[int, str]] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append((record.levelno, record.getMessage()))
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    try:
        FewShotDataset(dataset(tmp_path, content({1: [1, 1], 2: [1], 3: [2], 4: [1]})), 2)
    finally:
        logger.removeHandler(handler)
    messages = dict(lines)
    assert "3 of 4 images" in messages[logging.INFO] and "dog 1/1" in messages[logging.INFO]
    assert "fewer than 2 images were found for: dog 1, emu 0" in messages[logging.WARNING]


def test_it_is_built_from_a_config_and_loads_lazily(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content(world())))
    inner = dict(
        type="mmdet.CocoDataset",
        ann_file=str(path),
        data_prefix=dict(img=""),
        metainfo=dict(classes=CLASSES),
        pipeline=[],
        lazy_init=True,
        return_classes=True,
    )
    data = DATASETS.build(
        dict(type="mmsdpt.FewShotDataset", dataset=inner, shots=1, lazy_init=True)
    )
    assert not data._fully_initialized and data.metainfo["classes"] == CLASSES
    data.full_init()
    assert len(data) == len(ids(data)) > 0 and data[0]["text"] == CLASSES
    data.metainfo["classes"] = ()
    assert data.metainfo["classes"] == CLASSES


def test_odinw_schedules_are_those_of_the_protocol():
    written = {shots: tuple(schedule) for shots, schedule in ODINW_SCHEDULE.items()}
    assert written == {1: (200, 8), 3: (200, 4), 5: (200, 2), 10: (200, 1), 0: (200, 1)}
    assert ODINW_SEEDS == (3, 30, 300)


def test_wrong_arguments_are_refused_with_a_sentence(tmp_path):
    base = dataset(tmp_path, content(world()))
    for options in (
        dict(shots=-1),
        dict(shots=1.5),
        dict(shots=1, copies=0),
        dict(shots=1, max_images=0),
    ):
        with pytest.raises(ValueError, match="an integer of at least"):
            FewShotDataset(base, **options)
    with pytest.raises(ValueError, match="'image' or 'box'"):
        FewShotDataset(base, 1, count="pixel")
    with pytest.raises(TypeError, match="RepeatDataset"):
        FewShotDataset(RepeatDataset(base, 2), 1)
    with pytest.raises(ValueError, match="no image with a box"):
        FewShotDataset(dataset(tmp_path, content({1: [], 2: []})), 1)
    with pytest.raises(NotImplementedError):
        FewShotDataset(base, 1).get_subset([0])


def test_ten_shots_of_aquarium(real_data, tmp_path):
    convert_yolo(
        real_data / "aquarium_yolo" / "data.yaml", tmp_path, images="in-place", progress=False
    )
    classes = ("fish", "jellyfish", "penguin", "puffin", "shark", "starfish", "stingray")
    base = CocoDataset(
        data_root=str(tmp_path),
        ann_file="annotations/train.json",
        data_prefix=dict(img=""),
        metainfo=dict(classes=classes),
        pipeline=[],
    )
    for seed in ODINW_SEEDS:
        data = FewShotDataset(base, 10, seed=seed)
        have = [
            sum(k in data.get_cat_ids(i) for i in range(len(data))) for k in range(len(classes))
        ]
        assert min(have) >= 10 and len(data) < 70
