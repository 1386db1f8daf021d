"""A study that keeps frozen features computes those of an image once for all cells."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from mmsdpt.experiments.images import DatasetCache, LoadOnce
from mmsdpt.experiments.loading import load_study
from mmsdpt.experiments.running import run
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


def test_encoders_in_half_precision_train_and_test_and_are_part_of_a_result(
    write_study, tmp_path, monkeypatch
):
    from mmsdpt.experiments.jobs import prepare

    kinds, encode = [], CLIP._run_image

    def watched(self, images, state):
        kinds.append(self.visual.patch_embed.projection.weight.dtype)
        return encode(self, images, state)

    monkeypatch.setattr(CLIP, "_run_image", watched)
    digests, found = [], []
    for options in ({}, {"cell.encoder_dtype": "bfloat16"}):
        study, folder = load_study(write_study(["clip_adapter"]), options), tmp_path / f"{options}"
        digests += [job.digest for job in prepare(study, tmp_path, DatasetCache()).jobs]
        kinds.clear()
        records, _ = run(study, folder, threads=1)
        assert all(record["status"] == "finished" for record in records.values())
        assert set(kinds) == {torch.bfloat16 if options else torch.float32}
        found.append(numbers(records))
    assert len(set(digests)) == len(digests) == 4
    assert found[0].keys() == found[1].keys()


def test_every_host_is_tested_on_features_of_its_own(write_study, tiny_host, tmp_path):
    weights = load_file(tiny_host["load_from"])
    other = dict(tiny_host, name="other", load_from=str(tmp_path / "other.safetensors"))
    save_file(
        {name: value.flip(0).contiguous() for name, value in weights.items()}, other["load_from"]
    )

    def tested(work_dir, **keys):
        study = load_study(write_study(["coop"], **keys))
        return numbers(run(study, tmp_path / work_dir, threads=1)[0])

    both = tested("both", hosts=[tiny_host, other])
    alone = tested("alone", hosts=[other])
    assert alone.items() <= both.items()
    assert both["tiny_clip/zero_shot/on_clothing"] != both["other/zero_shot/on_clothing"]
    # Nor do models that see other pixels share them.
    (name,) = alone.keys() - {"other/zero_shot/on_clothing"}
    name, mean = name.replace("other", "tiny_clip"), [0.0, 0.0, 0.0]
    varied = tested("varied", vary=dict(mean=[{}, {"model.data_preprocessor.mean": mean}]))
    alone = tested("mean", cell=dict(model=dict(data_preprocessor=dict(mean=mean))))
    assert alone[name] in varied.values() and alone[name] != varied[name]


def test_images_that_are_read_in_two_ways_are_kept_apart(tmp_path):
    path = str(tmp_path / "image.png")
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)).save(path)
    cache = DatasetCache()
    for kind in ("color", "grayscale", "color"):
        load = dict(type="mmcv.LoadImageFromFile", color_type=kind)
        kept = LoadOnce(load, cache)(dict(img_path=path))["img"]
        fresh = LoadOnce(load, DatasetCache())(dict(img_path=path))["img"]
        assert np.array_equal(kept, fresh) and kept.ndim == (2 if kind == "grayscale" else 3)
    assert len(cache.decoded) == 2
