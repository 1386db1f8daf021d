"""The drawn data sets for mini CLIP: what they hold, and that drawing is whole and repeatable."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from mmsdpt.datasets.classification import ClassificationData
from projects.mini_world import class_folders
from projects.mini_world.garments import GARMENTS
from projects.mini_world.world import is_held_out, parse_phrase


def test_the_classes_are_new_to_the_photographs_or_to_pre_training():
    clothes, things = (class_folders.SETS[name][0] for name in ("drawn_clothes", "drawn_things"))
    photographs = {"dress", "hat", "longsleeve", "outwear", "pants", "shirt", "shoes", "shorts"}
    assert not photographs & {*clothes}
    assert {*clothes} <= {*GARMENTS} | {names[0] for _, names, _ in GARMENTS.values()}
    assert all(is_held_out(parse_phrase(name)) for name in things)
    assert all(list(names) == sorted(names) for names in (clothes, things))


@pytest.mark.parametrize("name", class_folders.SETS)
def test_a_set_is_drawn_once_the_same_everywhere_and_read_as_class_folders(
    name, tmp_path, monkeypatch
):
    monkeypatch.setattr(class_folders, "COUNTS", dict(train=2, val=1, test=1))
    assert class_folders.draw(name, tmp_path / "a") and class_folders.draw(name, tmp_path / "b")
    assert not class_folders.draw(name, tmp_path / "a")
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [name]
    files = sorted((tmp_path / "a" / name).rglob("*.png"))
    pictures = [cv2.imread(str(path)) for path in files]
    assert all(picture.shape == (64, 64, 3) for picture in pictures)
    assert len({picture.tobytes() for picture in pictures}) == len(files) == 4 * 6
    for path, picture in zip(files, pictures, strict=True):
        other = tmp_path / "b" / path.relative_to(tmp_path / "a")
        assert np.array_equal(cv2.imread(str(other)), picture)
    data = ClassificationData("folder", str(tmp_path / "a" / name), shots=2, classes="base")
    assert data.metainfo["classes"] == class_folders.SETS[name][0][:3] and len(data) == 6


def test_an_interrupted_drawing_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(class_folders, "COUNTS", dict(train=1, val=1, test=1))

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(class_folders.Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        class_folders.draw("drawn_things", tmp_path)
    assert not list(tmp_path.iterdir())
