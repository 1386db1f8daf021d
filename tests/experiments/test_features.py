"""A study that keeps frozen features computes those of an image once for all cells."""

from __future__ import annotations

import pytest

from mmsdpt.experiments.running import run
from mmsdpt.experiments.study import load_study
from mmsdpt.hosts.clip import CLIP


@pytest.fixture
def encoded(monkeypatch):
    """Number of images that the image tower was run on, by method."""
    counts, encode = [], CLIP._run_image

    def counted(self, images, state):
        counts.append(len(images))
        return encode(self, images, state)

    monkeypatch.setattr(CLIP, "_run_image", counted)
    return counts


def numbers(records):
    return {name: record["metrics"] for name, record in records.items()}


def test_after_the_first_method_no_image_is_encoded_again(write_study, tmp_path, encoded):
    names = ["coop", "kgcoop", "clip_adapter", "linear_probe"]
    options = {"cell.feature_cache.views": 2}
    study = load_study(write_study(names, epochs=4), options)
    after = {}
    records, _ = run(
        study,
        tmp_path / "work",
        threads=1,
        on_record=lambda record: after.setdefault(record["method"], sum(encoded)),
    )
    assert all(record["status"] == "finished" for record in records.values())
    assert after["coop"] > after["zero_shot"] > 0
    assert after["clip_adapter"] == after["kgcoop"] == after["coop"]
    # The probe is fitted to other pixels: those without augmentation, and validation images.
    assert after["linear_probe"] > after["coop"]
    encoded.clear()
    again, _ = run(study, tmp_path / "work", threads=1, redo=True)  # as another process would
    assert not encoded
    assert numbers(again) == numbers(records)
    off = {**options, "cell.feature_cache.keep": False}
    without, _ = run(load_study(write_study(names, epochs=4), off), tmp_path / "without", threads=1)
    assert encoded
    for name, metrics in numbers(without).items():
        assert metrics == pytest.approx(numbers(records)[name], rel=1e-4)


def test_views_are_part_of_a_result_and_the_folder_is_not(write_study, tmp_path):
    from mmsdpt.experiments.images import DatasetCache
    from mmsdpt.experiments.jobs import prepare

    def digests(**settings):
        options = {f"cell.feature_cache.{name}": value for name, value in settings.items()}
        study = load_study(write_study(["coop"]), options)
        return [job.digest for job in prepare(study, tmp_path, DatasetCache()).jobs]

    plain, coop = digests()
    assert digests(views=2)[1] != coop
    assert digests(views=2) == digests(views=2, folder=str(tmp_path / "elsewhere"), memory_gb=2.0)
    assert digests(views=2)[1] != digests(views=3)[1]
    assert digests(views=2)[0] == digests(views=3)[0] != digests(views=3, dtype="bfloat16")[0]
