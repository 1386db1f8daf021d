"""The downstream tasks as COCO datasets on disk, drawn once when they are first asked for."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from filelock import FileLock
from mmdet.datasets import CocoDataset
from mmengine.logging import print_log

from mmsdpt.registry import DATASETS

from .sprites import PALETTE
from .tasks import TaskPainter, get_task

# To be raised whenever the same settings draw other pictures, so that old caches are drawn again.
GENERATOR_VERSION = 1
MARKER = "scenes.json"


def fingerprint(task: str) -> str:
    """SHA-256 of everything that decides what the pictures of ``task`` look like."""
    drawn = asdict(get_task(task))
    if not drawn["absent"]:  # as before there was such a thing
        del drawn["absent"]
    settings = {"version": GENERATOR_VERSION, "task": drawn, "palette": PALETTE}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _marker_of(task: str) -> dict[str, Any]:
    return {"task": task, "version": GENERATOR_VERSION, "fingerprint": fingerprint(task)}


def _read_marker(root: Path) -> dict[str, Any] | None:
    path = root / MARKER
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _write_split(painter: TaskPainter, split: str, count: int, root: Path) -> None:
    folder = root / split
    folder.mkdir(parents=True)
    images, annotations = [], []
    for index in range(count):
        scene, labels = painter.draw(split, index)
        height, width = scene.image.shape[:2]
        name = f"{index:04d}.png"
        encoded = cv2.imencode(".png", scene.image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 3])[1]
        (folder / name).write_bytes(np.asarray(encoded).tobytes())
        images.append({"id": index + 1, "file_name": name, "width": width, "height": height})
        for (x1, y1, x2, y2), label in zip(scene.boxes.tolist(), labels, strict=True):
            if label is None:
                continue
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index + 1,
                    "category_id": label + 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                }
            )
    categories: list[dict[str, Any]] = [
        {"id": label + 1, "name": name} for label, name in enumerate(painter.task.names)
    ]
    if painter.task.long_tail:
        _add_lvis_fields(images, annotations, categories)
    target = root / "annotations" / f"{split}.json"
    target.parent.mkdir(exist_ok=True)
    content = {"images": images, "annotations": annotations, "categories": categories}
    target.write_text(json.dumps(content), encoding="utf-8")


def _add_lvis_fields(
    images: list[dict[str, Any]], annotations: list[dict], categories: list[dict]
) -> None:
    """Complete the annotations to LVIS's format: the classes, sorted by how often they are drawn,
    are frequent, common and rare, a third each, and every image is annotated for all of them.
    """
    for place, category in enumerate(categories):
        category["frequency"] = "fcr"[3 * place // len(categories)]
    present: dict[int, set[int]] = {}
    for annotation in annotations:
        present.setdefault(annotation["image_id"], set()).add(annotation["category_id"])
    for image in images:
        absent = {category["id"] for category in categories} - present.get(image["id"], set())
        image.update(neg_category_ids=sorted(absent), not_exhaustive_category_ids=[])


def generate_task(task: str, data_root: str | os.PathLike) -> Path:
    """Make sure that all splits of ``task`` lie under ``data_root``, drawn with the present
    settings.

    Pictures go to ``<split>/``, annotations to ``annotations/<split>.json``. A folder appears as a
    whole or not at all, and several processes may call this at once: one draws, the others wait.

    Args:
        task: name of the task.
        data_root: folder of this task alone.

    Returns:
        The folder.

    Raises:
        ValueError: no such task.
        FileExistsError: ``data_root`` holds something else, which is left untouched.
    """
    painter = TaskPainter(task)
    root = Path(data_root).absolute()
    wanted = _marker_of(task)
    if _read_marker(root) == wanted:
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(root.with_name(f".{root.name}.lock")):
        found = _read_marker(root)
        if found == wanted:
            return root
        if (
            root.exists()
            and (found is None or found["task"] != task)
            and (root.is_file() or any(root.iterdir()))
        ):
            held = "no scene task" if found is None else f"the scene task {found['task']!r}"
            raise FileExistsError(
                f"{root} exists and holds {held}, so {task!r} cannot be written there; choose"
                " another data_root, or remove the folder"
            )
        # The lock is ours: whatever an interrupted run left behind is nobody's.
        for leftover in root.parent.glob(f".{root.name}.tmp-*"):
            shutil.rmtree(leftover)
        print_log(f"Drawing the scene task {task!r} into {root}", logger="current")
        work = Path(tempfile.mkdtemp(prefix=f".{root.name}.tmp-", dir=root.parent))
        fresh = work / "new"
        for split, count in painter.task.splits:
            _write_split(painter, split, count, fresh)
        (fresh / MARKER).write_text(json.dumps(wanted, indent=1), encoding="utf-8")
        if root.exists():
            os.replace(root, work / "old")
        os.replace(fresh, root)
        shutil.rmtree(work)
    return root


@DATASETS.register_module()
class SceneTaskDataset(CocoDataset):
    """A split of a downstream task on procedural scenes; see ``TASKS`` for what there is.

    The task is drawn under ``data_root`` the first time, in COCO's format, and drawn again if it
    was made with other settings. Everything else is as in ``CocoDataset``. The classes of the task
    are the default ``metainfo``, and are handed to the detector (``return_classes``).

    Args:
        task: name of the task.
        split: "train", "val" or "test"; ``seen`` and ``held_out`` have "test" and "short".
        data_root: folder of this task alone; ``data/scenes/<task>`` by default.
        ann_file: as in ``CocoDataset``; ``annotations/<split>.json`` by default.
        data_prefix: as in ``CocoDataset``; the pictures of the split by default.
        metainfo: as in ``CocoDataset``; the classes of the task by default.
        return_classes: as in ``CocoDataset``, but on by default.
        **kwargs: as in ``CocoDataset``.

    Raises:
        ValueError: no such task or split.
        FileExistsError: ``data_root`` holds something else.
    """

    def __init__(
        self,
        task: str,
        split: str = "train",
        data_root: str | None = None,
        ann_file: str | None = None,
        data_prefix: dict[str, str] | None = None,
        metainfo: dict[str, Any] | None = None,
        return_classes: bool = True,
        **kwargs: Any,
    ) -> None:
        splits = tuple(name for name, _ in get_task(task).splits)
        if split not in splits:
            raise ValueError(
                f"the scene task {task!r} has the splits {splits}, but {split!r} was asked for"
            )
        self.task = task
        self.split = split
        root = generate_task(task, data_root or f"data/scenes/{task}")
        super().__init__(
            data_root=str(root),
            ann_file=ann_file or f"annotations/{split}.json",
            data_prefix=data_prefix or {"img": f"{split}/"},
            metainfo={"classes": get_task(task).names, **(metainfo or {})},
            return_classes=return_classes,
            **kwargs,
        )
