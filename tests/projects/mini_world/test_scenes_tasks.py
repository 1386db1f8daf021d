"""The downstream tasks: what they show, and how they get onto the disk."""

import json
import multiprocessing
import os
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from lvis import LVIS
from mmdet.evaluation import CocoMetric
from mmengine.dataset import Compose
from pycocotools.coco import COCO

from mmsdpt.evaluation import LVISMetric
from mmsdpt.registry import DATASETS
from projects.mini_world import (
    TASKS,
    SceneTaskDataset,
    generate_task,
    held_out_combinations,
    seen_combinations,
    task_dataset,
)
from projects.mini_world.tasks import TaskPainter
from projects.mini_world.world import COLOURS, NEW_SHAPES, SHAPES, parse_phrase


@pytest.fixture
def small(monkeypatch):
    """All tasks with a few pictures per split."""
    for name, task in TASKS.items():
        splits = tuple((split, 12 if split == "train" else 4) for split, _ in task.splits)
        monkeypatch.setitem(TASKS, name, replace(task, splits=splits))


@pytest.mark.parametrize("name", TASKS)
def test_a_task_shows_all_its_classes_again_and_again_the_same(name):
    painter = TaskPainter(name)
    drawn = [painter.draw("test", index) for index in range(80 if painter.task.long_tail else 25)]
    labels = [label for _, found in drawn for label in found if label is not None]
    assert set(labels) == set(range(len(painter.task.classes)))
    assert all(any(label is not None for label in found) for _, found in drawn)
    again, other = painter.draw("test", 3)[0], painter.draw("val", 3)[0]
    assert np.array_equal(drawn[3][0].image, again.image)
    assert not np.array_equal(again.image, other.image)


def test_every_task_differs_from_pretraining_in_the_way_it_says():
    painter = {
        name: [TaskPainter(name).draw("test", index) for index in range(10)] for name in TASKS
    }
    scenes = {name: [scene for scene, _ in drawn] for name, drawn in painter.items()}
    assert all(np.ptp(scene.image.astype(int), axis=2).max() == 0 for scene in scenes["thermal"])
    assert max((s.boxes[:, 2:] - s.boxes[:, :2]).max() for s in scenes["aerial"]) < 28
    assert min(len(scene.objects) for scene in scenes["clutter"]) > 7
    assert all(None in labels for _, labels in painter["clutter"])
    assert {thing.shape for scene in scenes["new_shapes"] for thing in scene.objects} <= set(
        NEW_SHAPES
    )
    assert not set(TASKS["new_names"].names) & {*SHAPES, *COLOURS}
    # The same pictures but for the draw; known words, and new ones.
    assert TASKS["infrared"].style == TASKS["thermal"].style
    assert {parse_phrase(name) for name in TASKS["infrared"].names} == {
        concept for _, concept in TASKS["thermal"].classes
    }
    for name, concept in TASKS["new_adjectives"].classes:
        adjective, shape = name.split()
        assert shape == concept.shape in SHAPES and adjective not in COLOURS
    seen = set(seen_combinations())
    assert {
        concept for name in ("common", "long_tail") for _, concept in TASKS[name].classes
    } <= seen


def test_a_long_tail_is_annotated_as_lvis_is(small, tmp_path):
    painter = TaskPainter("long_tail")
    counts = np.zeros(24)
    for index in range(60):
        for label in painter.draw("train", index)[1]:
            counts[label] += 1
    thirds = counts.reshape(3, 8).sum(1)
    assert thirds[0] > 2.5 * thirds[1] > 2.5 * thirds[2] > 0
    truth = LVIS(str(generate_task("long_tail", tmp_path / "scenes") / "annotations" / "test.json"))
    assert "".join(x["frequency"] for x in truth.load_cats(None)) == "f" * 8 + "c" * 8 + "r" * 8
    present = {image: {x["category_id"] for x in anns} for image, anns in truth.img_ann_map.items()}
    for image in truth.imgs.values():
        found = present.get(image["id"], set())
        assert not found & set(image["neg_category_ids"])
        assert len(found) + len(image["neg_category_ids"]) == 24
    dataset = SceneTaskDataset("long_tail", "test", str(tmp_path / "scenes"))
    assert len(dataset) == 4
    metric = LVISMetric(str(tmp_path / "scenes" / "annotations" / "test.json"))
    metric.dataset_meta = dataset.metainfo
    metric.process(None, [perfect(dataset, i) for i in range(4)])
    assert metric.evaluate(4)["lvis/AP"] == pytest.approx(1.0)


def perfect(dataset, index):
    """What a perfect detector says of a picture."""
    info = dataset.get_data_info(index)
    boxes = torch.tensor([each["bbox"] for each in info["instances"]], dtype=torch.float32)
    labels = torch.tensor([each["bbox_label"] for each in info["instances"]])
    found = dict(bboxes=boxes.reshape(-1, 4), scores=torch.ones(len(labels)), labels=labels)
    return dict(img_id=info["img_id"], pred_instances=found)


def test_the_tasks_that_measure_pretraining_keep_seen_and_held_out_apart():
    for name, kinds in (("seen", seen_combinations()), ("held_out", held_out_combinations())):
        concepts = [concept for _, concept in TASKS[name].classes]
        assert len(set(concepts)) == 24 and set(concepts) <= set(kinds)
        assert {concept.shape for concept in concepts} == set(SHAPES)
        assert {concept.colour for concept in concepts} == set(COLOURS)


@pytest.mark.parametrize("name", ["clutter", "new_names", "held_out"])
def test_the_files_of_a_task_are_coco(small, tmp_path, name):
    root = generate_task(name, tmp_path / name)
    for split, count in TASKS[name].splits:
        coco = COCO(root / "annotations" / f"{split}.json")
        assert (
            tuple(category["name"] for category in coco.loadCats(coco.getCatIds()))
            == TASKS[name].names
        )
        images = coco.loadImgs(coco.getImgIds())
        assert len(images) == count
        for image in images:
            picture = cv2.imread(str(root / split / image["file_name"]))
            assert picture.shape == (image["height"], image["width"], 3)
            annotations = coco.loadAnns(coco.getAnnIds(imgIds=[image["id"]]))
            assert annotations
            for annotation in annotations:
                x, y, width, height = annotation["bbox"]
                assert (
                    0 <= x
                    and 0 <= y
                    and x + width <= image["width"]
                    and y + height <= image["height"]
                )
                assert annotation["area"] == width * height > 0


def test_the_pictures_on_disk_have_the_right_channel_order(small, tmp_path):
    root = generate_task("new_shapes", tmp_path / "new_shapes")
    stored = cv2.imread(str(root / "test" / "0002.png"))[..., ::-1]
    assert np.array_equal(stored, TaskPainter("new_shapes").draw("test", 2)[0].image)


def test_a_split_is_a_coco_dataset_with_the_classes_of_the_task(small, tmp_path):
    config = dict(
        type="mmsdpt.SceneTaskDataset",
        task="thermal",
        split="test",
        data_root=str(tmp_path / "thermal"),
    )
    dataset = DATASETS.build({**config, "test_mode": True, "pipeline": []})
    assert isinstance(dataset, SceneTaskDataset) and len(dataset) == 4
    assert dataset.metainfo["classes"] == TASKS["thermal"].names
    info = dataset.get_data_info(0)
    assert os.path.isfile(info["img_path"])
    assert info["text"] == TASKS["thermal"].names and info["custom_entities"] is True


def test_a_perfect_detector_scores_one(small, tmp_path):
    root = tmp_path / "aerial"
    dataset = SceneTaskDataset("aerial", "test", data_root=str(root), test_mode=True, pipeline=[])
    metric = CocoMetric(ann_file=str(root / "annotations" / "test.json"), metric="bbox")
    metric.dataset_meta = dataset.metainfo
    pack = Compose(
        [{"type": "mmdet.LoadAnnotations", "with_bbox": True}, {"type": "mmdet.PackDetInputs"}]
    )
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        info["img_shape"] = info["ori_shape"] = (info["height"], info["width"])
        sample = pack(info)["data_samples"]
        boxes = sample.gt_instances.bboxes.tensor
        predicted = {
            "bboxes": boxes,
            "labels": sample.gt_instances.labels,
            "scores": boxes.new_ones(len(boxes)),
        }
        metric.process({}, [{**sample.metainfo, "pred_instances": predicted}])
    assert metric.evaluate(size=len(dataset))["coco/bbox_mAP"] == pytest.approx(1.0)


def test_a_task_is_drawn_once(small, tmp_path, monkeypatch):
    root = generate_task("thermal", tmp_path / "thermal")
    monkeypatch.setattr(task_dataset, "_write_split", lambda *args: pytest.fail("drawn again"))
    assert generate_task("thermal", tmp_path / "thermal") == root


def test_other_settings_draw_the_task_again(small, tmp_path, monkeypatch):
    root = generate_task("thermal", tmp_path / "thermal")
    (root / "stale.txt").write_text("from an older version")
    task = TASKS["thermal"]
    monkeypatch.setitem(TASKS, "thermal", replace(task, objects=(1, 1)))
    generate_task("thermal", root)
    content = json.loads((root / "annotations" / "train.json").read_text())
    assert len(content["annotations"]) == len(content["images"])
    assert not (root / "stale.txt").exists()
    monkeypatch.setattr(task_dataset, "GENERATOR_VERSION", task_dataset.GENERATOR_VERSION + 1)
    (root / "stale.txt").write_text("from an older version")
    generate_task("thermal", root)
    assert not (root / "stale.txt").exists()


def _generate_and_count(root, log):
    cv2.setNumThreads(0)
    write_split = task_dataset._write_split

    def counted(painter, split, count, folder):
        with open(log, "a", encoding="utf-8") as file:
            file.write(f"{split}\n")
        write_split(painter, split, count, folder)

    task_dataset._write_split = counted
    generate_task("thermal", root)
    assert COCO(root / "annotations" / "test.json").getImgIds()


def test_of_several_processes_one_draws_and_all_find_the_whole_task(small, tmp_path):
    context = multiprocessing.get_context("fork")
    root, log = tmp_path / "scenes" / "thermal", tmp_path / "log"
    processes = [context.Process(target=_generate_and_count, args=(root, log)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert sorted(log.read_text().split()) == ["test", "train", "val"]


def test_an_interrupted_drawing_leaves_no_task_and_no_rubbish(small, tmp_path, monkeypatch):
    root = tmp_path / "thermal"
    write_split = task_dataset._write_split

    def interrupted(painter, split, count, folder):
        write_split(painter, split, count, folder)
        raise KeyboardInterrupt

    monkeypatch.setattr(task_dataset, "_write_split", interrupted)
    with pytest.raises(KeyboardInterrupt):
        generate_task("thermal", root)
    assert not root.exists()
    monkeypatch.setattr(task_dataset, "_write_split", write_split)
    generate_task("thermal", root)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["thermal"]


def test_a_folder_with_something_else_is_left_alone(small, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.jpg").write_bytes(b"precious")
    with pytest.raises(FileExistsError, match="holds no scene task"):
        generate_task("thermal", tmp_path / "photos")
    assert (tmp_path / "photos" / "mine.jpg").read_bytes() == b"precious"
    root = generate_task("thermal", tmp_path / "thermal")
    with pytest.raises(FileExistsError, match="'thermal'"):
        generate_task("aerial", root)


def test_an_unknown_task_or_split_is_refused_with_the_choices(tmp_path):
    with pytest.raises(ValueError, match="new_names"):
        SceneTaskDataset("nothing", data_root=str(tmp_path / "nothing"))
    with pytest.raises(ValueError, match="'test'"):
        SceneTaskDataset("held_out", "train", data_root=str(tmp_path / "held_out"))
