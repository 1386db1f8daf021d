"""What of GLIP is frozen: its modes, its graph, and text that is encoded once."""

from __future__ import annotations

import torch
from torch import nn

from tests.hosts.small_glip import (
    TEXTS,
    build_mini_glip,
    losses_of,
    mini_images,
    mini_samples,
    predictions_of,
)

SDPT = dict(type="mmsdpt.SDPT", num_tokens=3)
NOISE = ("Dropout", "DropPath", "DropBlock")


def noisy_modules(model: nn.Module) -> dict[str, nn.Module]:
    return {n: m for n, m in model.named_modules() if type(m).__name__ in NOISE}


def parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:i]) for i in range(len(parts))]


def test_a_frozen_model_stays_in_eval_mode_and_only_the_tuner_trains():
    model = build_mini_glip(tuner=SDPT)
    kinds = {type(m).__name__ for m in noisy_modules(model).values()}
    assert kinds == {*NOISE}, "the test needs all of them"
    for setup in (lambda: model, model.train, lambda: model.eval() and None or model.train()):
        setup()
        for name, module in model.named_modules():
            inside = name.startswith("tuners") or name in ("", "data_preprocessor")
            assert module.training or not inside or name == "data_preprocessor", name
            if not inside:
                assert not module.training, name
        assert {n.split(".")[0] for n, p in model.named_parameters() if p.requires_grad} == {
            "tuners"
        }
    model.eval()
    assert not any(module.training for module in model.modules())


def test_frozen_parts_build_no_graph():
    tuned = build_mini_glip(tuner=SDPT).train()
    images = mini_images(1).requires_grad_()
    features = {
        name: (model.extract_feat(images), model.encode_text(["raccoon"]))
        for name, model in (("tuned", tuned), ("plain", build_mini_glip().eval()))
    }
    pyramid, text = features["tuned"]
    assert not any(t.requires_grad for t in (*pyramid, text["hidden"], text["embedded"]))
    pyramid, text = features["plain"]
    assert all(t.requires_grad for t in (*pyramid, text["hidden"], text["embedded"]))


def test_a_training_step_needs_no_noise_and_changes_only_the_tuner():
    model = build_mini_glip(tuner=SDPT).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
    steps = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        steps.append(losses_of(model, mini_images(2), mini_samples(TEXTS[:2])))
    assert all(torch.equal(steps[0][k], steps[1][k]) for k in steps[0]), "something was dropped"
    sum(steps[0].values()).backward()
    optimizer.step()
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) is not name.startswith("tuners."), name


def test_trainable_names_matching_parameters_and_puts_their_modules_in_train_mode():
    patterns = [r"^neck\.", r"dyhead_tower\.\d+\.b_attn\.gamma_"]
    model = build_mini_glip(tuner=SDPT, trainable=patterns).train()
    training = {name for name, p in model.named_parameters() if p.requires_grad}
    tuner = {name for name in training if name.startswith("tuners.default.")}
    neck = {name for name in training if name.startswith("neck.")}
    gammas = {name for name in training if ".b_attn.gamma_" in name}
    assert training == tuner | neck | gammas and tuner and len(gammas) == 4
    assert neck == {f"neck.{name}" for name, _ in model.neck.named_parameters()}
    for name in training:
        for parent in parents(name):
            assert model.get_submodule(parent).training, parent
    for name in ("backbone", "language_model", "bbox_head.head.dyhead_tower.0.b_attn.attn"):
        assert not any(module.training for module in model.get_submodule(name).modules()), name
    assert any(type(m).__name__ == "DropBlock" and m.training for m in model.neck.modules())
    # The neck trains, so its input needs no graph and its output does.
    assert all(level.requires_grad for level in model.extract_feat(mini_images(1)))


def test_without_tuners_everything_trains_as_in_mmdetection():
    model = build_mini_glip().train()
    assert all(p.requires_grad for p in model.parameters())
    assert all(module.training for module in model.modules())
    frozen = build_mini_glip(backbone=dict(frozen_stages=0)).train()
    wanted = {n for n, _ in frozen.named_parameters() if n.startswith("backbone.patch_embed.")}
    assert {n for n, p in frozen.named_parameters() if not p.requires_grad} == wanted and wanted


# ---------------------------------------------------------------------- the text cache


def count_encoded(model: nn.Module) -> list[int]:
    """Captions that reach the text encoder, call by call."""
    calls: list[int] = []
    model.language_model.language_backbone.register_forward_pre_hook(
        lambda module, args: calls.append(len(args[0]["input_ids"]))
    )
    return calls


def test_a_frozen_text_side_encodes_each_caption_once():
    model = build_mini_glip(tuner=SDPT).train()
    calls = count_encoded(model)
    for _ in range(3):
        losses_of(model, mini_images(2), mini_samples(TEXTS[:2]))
    predictions_of(model.eval(), mini_images(3), mini_samples(TEXTS))
    assert calls == [1, 1, 1]


def test_a_text_side_that_trains_is_never_cached():
    model = build_mini_glip(tuner=SDPT, trainable=["language_model"])
    for mode in (True, False):
        calls = count_encoded(model.train(mode))
        losses = [losses_of(model, mini_images(1), mini_samples(TEXTS[:1])) for _ in range(2)]
        assert calls[:2] == [1, 1] and len(calls) == 2
        parameter = next(iter(model.language_model.parameters()))
        (gradient,) = torch.autograd.grad(sum(losses[1].values()), parameter)
        assert gradient.abs().sum() > 0
