"""The cache of Tip-Adapter is filled with augmented training images, once, before anything else."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from mmengine.hooks import Hook
from torch.utils.data import DataLoader

from mmsdpt.engine import TunerRunner
from mmsdpt.engine.hooks import TipAdapterHook
from mmsdpt.tuners import TipAdapter
from tests.hosts.small_clip import NAMES
from tests.tuners.contract_clip import CLIPHost
from tests.tuners.contract_hosts import different
from tests.tuners.contract_runs import Copies, Run

EPOCHS = 3


def test_a_run_trains_the_keys_of_its_images_and_a_resumed_one_does_not_fill_again(tmp_path):
    host = CLIPHost.build(tmp_path)
    host.hooks = (*CLIPHost.hooks, dict(type="mmsdpt.TipAdapterHook", passes=2))
    config = host.config_of(TipAdapter, shots=2)
    start = 1e-9  # so small a rate that the keys stay what they were filled with
    with host.attached(default=config) as model:
        filled = Run(host, model, dict(type="SGD", lr=start), tmp_path / "filled", EPOCHS)
    data = host.model.data_preprocessor(host.collate([host.item()]), False)
    f = F.normalize(host.model.encode_untuned_image(data["images"]), dim=-1)
    keys, labels = (filled.state[f"tuners.default.{name}"] for name in ("keys", "labels"))
    own = int(data["data_samples"][0].gt_label)
    # The run's data are two copies of one image, without augmentation.
    assert labels.tolist() == [own if i // 2 == own else -1 for i in range(2 * len(NAMES))]
    assert torch.allclose(keys[labels == own], f.expand(2, -1), atol=1e-5)
    assert not keys[labels < 0].any()
    with host.attached(default=config) as model:
        run = Run(host, model, dict(type="SGD", lr=0.5), tmp_path / "run", EPOCHS)
    assert different(run.state, filled.state) == ["tuners.default.keys"]
    checkpoint = tmp_path / "run" / f"epoch_{EPOCHS - 1}.pth"
    with host.attached(seed=1, default=config) as model:
        resumed = Run(host, model, dict(type="SGD", lr=0.5), tmp_path / "on", EPOCHS, checkpoint)
    assert different(resumed.state, run.state) == []


class StopsEarly(Hook):
    def after_train_epoch(self, runner) -> None:
        runner.train_loop.stop_training = runner.epoch + 1 == EPOCHS - 1


def test_a_run_that_stops_early_searches_before_its_last_checkpoint(tmp_path, monkeypatch):
    def search(hook, runner, loader):
        runner.host.tuners.default.strengths += 10

    monkeypatch.setattr(TipAdapterHook, "_search", search)
    host = CLIPHost.build(tmp_path)
    host.hooks = (*CLIPHost.hooks, dict(type="mmsdpt.TipAdapterHook", passes=1), StopsEarly())
    with host.attached(default=host.config_of(TipAdapter, shots=2)) as model:
        wanted = model.tuners.default.strengths + 10
        Run(host, model, dict(type="SGD", lr=0.5), tmp_path / "run", EPOCHS)
    kept = torch.load(tmp_path / "run" / f"epoch_{EPOCHS - 1}.pth", weights_only=True)
    assert torch.equal(kept["state_dict"]["tuners.default.strengths"], wanted)


def test_a_run_counted_in_iterations_searches_before_its_last_checkpoint(tmp_path, monkeypatch):
    searched = []

    def search(hook, runner, loader):
        searched.append(runner.iter)
        runner.host.tuners.default.strengths += 10

    monkeypatch.setattr(TipAdapterHook, "_search", search)
    host = CLIPHost.build(tmp_path)
    with host.attached(default=host.config_of(TipAdapter, shots=2)) as model:
        wanted = model.tuners.default.strengths + 10
        TunerRunner(
            model=model,
            work_dir=str(tmp_path / "run"),
            train_dataloader=DataLoader(
                Copies(host.item(), 2, host.metainfo), collate_fn=host.collate
            ),
            train_cfg=dict(type="IterBasedTrainLoop", max_iters=2),
            optim_wrapper=dict(
                constructor="mmsdpt.TrainableOptimWrapperConstructor",
                optimizer=dict(type="SGD", lr=0.5),
            ),
            default_hooks=dict(
                checkpoint=dict(type="mmsdpt.TunerCheckpointHook", by_epoch=False), logger=None
            ),
            custom_hooks=[*CLIPHost.hooks, dict(type="mmsdpt.TipAdapterHook", passes=1)],
            load_from=host.weights,
            log_level="ERROR",
            default_scope=host.scope,
        ).train()
    assert searched == [1]
    kept = torch.load(tmp_path / "run" / "iter_2.pth", weights_only=True)
    assert torch.equal(kept["state_dict"]["tuners.default.strengths"], wanted)


def test_beside_a_frozen_tuner_cache_and_search_see_what_the_model_sees(tmp_path, monkeypatch):
    host = CLIPHost.build(tmp_path)
    host.hooks = (*CLIPHost.hooks, dict(type="mmsdpt.TipAdapterHook", passes=1, slot="new"))
    old = dict(type="mmsdpt.CLIPVPT", frozen=True)
    with host.attached(old=old, new=host.config_of(TipAdapter, shots=2)) as model:
        for parameter in model.tuners["old"].parameters():
            parameter.data.mul_(30)
        Run(host, model, dict(type="SGD", lr=1e-9), tmp_path / "run", 2)
        tuner, item = model.tuners["new"], host.item()
        images = model.data_preprocessor(host.collate([item]), False)["images"]
        used = tuner.keys[tuner.labels >= 0]
        assert torch.allclose(model.encode_image(images).detach(), used, atol=1e-5)
        untuned = F.normalize(model.encode_untuned_image(images), dim=-1)
        assert not torch.allclose(untuned, used, atol=1e-2)
        given = []
        monkeypatch.setattr(tuner, "search", lambda *found: given.extend(found) or 1.0)
        runner = SimpleNamespace(host=model, cfg={}, logger=logging.getLogger())
        validation = DataLoader([item], collate_fn=host.collate)
        TipAdapterHook(slot="new")._search(runner, validation)
        features, logits, *_ = given
        alpha, beta = tuner.strengths
        whole = logits + alpha * tuner.votes(features @ tuner.keys.T, beta, NAMES)
        assert torch.allclose(whole, model(images), atol=1e-4)
