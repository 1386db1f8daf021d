"""Contrastive pre-training: the loss, its batch over processes, and weights that fit CLIP."""

from __future__ import annotations

import math
import multiprocessing
import os
import socket

import pytest
import torch
import torch.nn.functional as F
from mmpretrain.structures import DataSample
from torch import nn

from mmsdpt.utils.errors import InputError
from projects.mini_world.clip_pretraining import contrastive_loss, seen_patches
from tests.hosts.small_clip import build_clip, clip_config

CAPTIONS = ("a red star.", "a hat", "a red star.", "two moons", "a hat", "a photo of a key.")


def pretraining_clip(**changes) -> nn.Module:
    return build_clip(clip_config(type="mmsdpt.CLIPPretraining", **changes)).double().train()


def batch(captions=CAPTIONS) -> tuple[torch.Tensor, list[DataSample]]:
    images = torch.randn(
        len(captions), 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    return images, [DataSample(metainfo=dict(caption=caption)) for caption in captions]


def plain_loss(image, text, captions, scale):
    """Oracle, pair by pair: every row may answer with any of the pairs of its own caption."""
    total, N = 0.0, len(captions)
    for rows, columns in ((image, text), (text, image)):
        for i in range(N):
            logits = [scale * (rows[i] @ columns[j]) for j in range(N)]
            norm = torch.logsumexp(torch.stack(logits), 0)
            right = [j for j in range(N) if captions[j] == captions[i]]
            total = total - sum(logits[j] - norm for j in right) / len(right)
    return total / (2 * N)


def test_the_loss_is_infonce_with_all_pairs_of_a_caption_as_answers():
    image, text = (F.normalize(torch.randn(6, 8, dtype=torch.float64), dim=1) for _ in range(2))
    scale = torch.tensor(7.0, dtype=torch.float64)
    ours = contrastive_loss(image, text, CAPTIONS, scale)
    assert abs(ours - plain_loss(image, text, CAPTIONS, scale)) < 1e-9


def test_with_different_captions_the_loss_is_cross_entropy_on_the_diagonal():
    image, text = (F.normalize(torch.randn(5, 8, dtype=torch.float64), dim=1) for _ in range(2))
    logits, labels = 3.0 * image @ text.T, torch.arange(5)
    expected = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
    ours = contrastive_loss(image, text, list("abcde"), torch.tensor(3.0, dtype=torch.float64))
    assert abs(ours - expected) < 1e-9


def test_the_model_loses_by_its_own_features():
    model = pretraining_clip()
    images, samples = batch()
    losses = model(images, samples, mode="loss")
    image, text = model.encode_image(images), model.encode_text(CAPTIONS)
    expected = plain_loss(image, text, CAPTIONS, model.logit_scale.exp())
    assert abs(losses["loss"] - expected) < 1e-9
    assert not losses["scale"].requires_grad and not losses["accuracy"].requires_grad


def test_every_parameter_learns():
    model = pretraining_clip(least_patches=0.5)
    model(*batch(), mode="loss")["loss"].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_the_scale_stays_within_a_hundred():
    model = pretraining_clip()
    with torch.no_grad():
        model.logit_scale.fill_(9.0)
    assert abs(model(*batch(), mode="loss")["scale"] - 100.0) < 1e-9
    assert abs(model.logit_scale.item() - math.log(100.0)) < 1e-9


def test_all_patches_give_the_features_of_the_tower():
    model = pretraining_clip()
    images, _ = batch()
    shown = seen_patches(model.visual, images, keep=1.0)
    assert (shown - model.visual(images)[-1]).abs().max() < 1e-9


def test_hidden_patches_do_not_matter():
    """With one patch shown of each picture at least 15 of 16 can be changed without a trace."""
    model = pretraining_clip()
    image = batch()[0][:1]
    torch.manual_seed(3)
    before = seen_patches(model.visual, image, keep=1 / 16)
    changes = []
    for patch in range(16):
        changed = image.clone()
        row, column = divmod(patch, 4)
        changed[..., row * 8 : row * 8 + 8, column * 8 : column * 8 + 8] += 1.0
        torch.manual_seed(3)
        changes.append((seen_patches(model.visual, changed, keep=1 / 16) - before).abs().max())
    assert sum(change > 1e-6 for change in changes) == 1


def test_in_evaluation_all_patches_are_shown():
    model = pretraining_clip(least_patches=0.2).eval()
    images, samples = batch()
    first, second = (model(images, samples, mode="loss")["loss"] for _ in range(2))
    assert first == second


def test_positions_start_far_from_each_other():
    config = clip_config(type="mmsdpt.CLIPPretraining")
    model = build_clip(config)
    model.init_weights()
    positions = model.visual.pos_embed[0, 1:]
    distances = torch.cdist(positions, positions) + 1e9 * torch.eye(len(positions))
    assert distances.min() > 1.0


def test_its_weights_fit_the_classifier():
    trained, host = pretraining_clip(), build_clip().double()
    result = host.load_state_dict(trained.state_dict())
    assert not result.missing_keys and not result.unexpected_keys
    images, _ = batch()
    assert (host.encode_image(images) - trained.encode_image(images)).abs().max() < 1e-9


def test_pictures_without_captions_are_refused():
    images, _ = batch()
    with pytest.raises(InputError, match="algorithm_keys"):
        pretraining_clip()(images, [DataSample() for _ in images], mode="loss")


def test_a_share_of_no_patches_is_refused():
    with pytest.raises(InputError, match="least_patches"):
        pretraining_clip(least_patches=0.0)


def child(rank: int, port: int, queue) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    model = pretraining_clip()
    images, samples = batch()
    ours = slice(3 * rank, 3 * rank + 3)
    wrapped = nn.parallel.DistributedDataParallel(model)
    losses = wrapped(images[ours], samples[ours], mode="loss")
    losses["loss"].backward()
    gradients = {name: p.grad.numpy().copy() for name, p in model.named_parameters()}
    queue.put((rank, losses["loss"].item(), losses["accuracy"].item(), gradients))
    torch.distributed.destroy_process_group()


def test_two_processes_learn_as_one_with_the_joined_batch():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=child, args=(rank, port, queue)) for rank in (0, 1)]
    for process in processes:
        process.start()
    reports = [queue.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    model = pretraining_clip()
    losses = model(*batch(), mode="loss")
    losses["loss"].backward()
    for _, loss, accuracy, gradients in reports:
        assert loss == pytest.approx(losses["loss"].item(), abs=1e-9)
        assert accuracy == pytest.approx(losses["accuracy"].item(), abs=1e-9)
        for name, parameter in model.named_parameters():
            difference = torch.from_numpy(gradients[name]) - parameter.grad
            assert difference.abs().max() < 1e-9, name
