"""Published numbers of CLIP's methods, and recipes that their authors have for one protocol."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmsdpt.experiments.compose import compose
from mmsdpt.experiments.frame import Score, harmonic_mean
from mmsdpt.experiments.loading import load_study
from projects.mudpt_paper import published, published_later

TABLES = [each for each in published.PUBLISHED if "values" in each]


def test_published_harmonic_means_are_those_of_their_averages():
    for table in TABLES:
        for numbers in table["values"].values():
            h = harmonic_mean(Score(numbers["base"]), Score(numbers["new"]))
            assert h.mean == pytest.approx(numbers["H"], abs=0.02)


def test_later_methods_stand_beside_both_independent_prompts():
    (table,) = [each for each in published_later.PUBLISHED if "values" in each]
    recipes = [table["values"][f"independent_vl{end}"]["H"] for end in ("", "_promptsrc")]
    assert recipes == [77.90, 77.51]
    assert {"independent_vl_promptsrc", *table["values"]} - {*table["labels"]} == {"zero_shot"}


# Settings of the tuner, epochs, images in a batch, factors of warm-up, and the average.
TRANSFER = {
    "promptsrc": (dict(num_tokens=4, depth=3), 20, 4, 1, dict(mean=6, std=10, epochs=20)),
    "mma": (dict(depth=4, rank=32), 1, 128, 0, None),
    "mmrl": (dict(depth=7, weight=0.2, use_tokens=False), 1, 32, 0, None),
}


@pytest.mark.parametrize("method", TRANSFER)
def test_from_imagenet_to_other_data_each_method_has_its_authors_recipe(method, repository):
    path = repository / "projects/mudpt_paper/studies/later_cross_dataset.py"
    study = load_study(path, {"study.seeds": [1], "study.data": ["clip_dtd"]})
    (cell,) = [x for x in study.cells() if (x.training.method, x.data) == (method, "dtd")]
    cfg = compose(study, cell, Path("work"), lambda data: None)
    settings, epochs, batch, warm_up, average = TRANSFER[method]
    assert (cell.training.data, cell.training.shots) == ("imagenet", 16)
    assert settings.items() <= cfg["model"]["tuners"]["default"].items()
    assert cfg["train_cfg"]["max_epochs"] == epochs
    assert cfg["train_dataloader"]["batch_size"] == batch
    kinds = [each["type"] for each in cfg["param_scheduler"]]
    assert kinds == ["ConstantLR"] * warm_up + ["CosineAnnealingLR"]
    hooks = [dict(type="mmsdpt.GaussianAverageHook", **average)] if average else []
    assert cfg["custom_hooks"] == hooks


@pytest.mark.parametrize("method", ["mudpt", "mmrl", "mmrl_10", "tip_adapter_f"])
def test_mmrl_and_tip_adapter_crop_at_least_half_of_an_image(method, repository):
    path = repository / "projects/mudpt_paper/studies/later_few_shot.py"
    study = load_study(path, {"study.seeds": [1], "study.methods": [method]})
    cell = [x for x in study.cells() if x.training.method == method][-1]
    cfg = compose(study, cell, Path("work"), lambda data: None)
    crop = cfg["train_dataloader"]["dataset"]["pipeline"][1]["crop_ratio_range"]
    assert crop == (0.08 if method == "mudpt" else 0.5, 1.0)
