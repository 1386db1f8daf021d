"""Methods of GLIP's seams act, train and merge on Grounding DINO, which has the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.hosts.small_glip import TEXTS, make_images, make_samples, make_text_folder
from tests.hosts.small_grounding_dino import (
    build_small_grounding_dino,
    float64,
    make_every_parameter_matter,
)

SIZE = (64, 96)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_text_folder(tmp_path_factory.mktemp("bert"))


@pytest.mark.parametrize(
    ("method", "merges"), [("DoRA", True), ("DoRAXMHA", True), ("SSF", True), ("Mona", False)]
)
def test_it_acts_trains_merges_and_switches_off(method, merges, folder):
    settings = dict(rank=4) if method.startswith("DoRA") else {}
    tuner = dict(type=f"mmsdpt.{method}", **settings)
    model = build_small_grounding_dino(folder, ours=True, tuner=tuner)
    make_every_parameter_matter(model)
    model.double()
    tuner, images, samples = model.tuners.default, make_images(2, SIZE), make_samples(TEXTS, SIZE)
    tuner.prepare()
    with torch.no_grad(), float64():
        for parameter in tuner.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))

        def outputs() -> torch.Tensor:
            boxes = model(images, samples[:2], mode="predict")
            return torch.cat([each.pred_instances.scores for each in boxes])

        tuned = outputs()
        with model.tuners_off():
            assert not torch.allclose(outputs(), tuned)
        if merges:
            tuner.merge()
            assert torch.allclose(outputs(), tuned, rtol=1e-9, atol=1e-9)
            tuner.unmerge()
    model.float().train()
    losses = model(images.float(), samples[:2], mode="loss")
    sum(value for name, value in losses.items() if "loss" in name).backward()
    for name, parameter in model.named_parameters():
        trains = name.startswith("tuners.")
        assert (parameter.grad is not None and bool(parameter.grad.any())) == trains, name
