"""Methods on CLIP with losses or modules of their own: the loss and its gradients are those of the
method's formula, written out plainly.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from mmengine.logging import MMLogger
from mmpretrain.models.multimodal.clip.utils import OPENAI_IMAGENET_PROMPT
from torch import Tensor, nn

from mmsdpt.hosts.seams import ForwardState
from mmsdpt.tuners.files import load_tuner, save_tuner
from mmsdpt.utils.errors import InputError
from tests.hosts.small_clip import NAMES, make_images, make_samples, tuned_clip
from tests.oracles.clip import plain_image, plain_sentence, plain_text
from tests.shake import shake

EXACT = 1e-9
CAPTION = "a photo of a {}."


def unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=-1, keepdim=True)


def disturbed(tuner: dict, std: float = 0.3) -> nn.Module:
    """In float64, away from where the method starts."""
    model = tuned_clip(tuner).double()
    model.tuners["default"].prepare()
    torch.manual_seed(1)
    shake(model.tuners, std)
    return model


def texts(model: nn.Module, template: str = CAPTION) -> Tensor:
    """g0 (C, e)."""
    rows = [(template.format(name),) for name in NAMES]
    return torch.stack([plain_text(model, *plain_sentence(model, *row)) for row in rows])


def images_of(model: nn.Module, images: Tensor) -> Tensor:
    """f0 (B, e)."""
    return torch.stack([plain_image(model, image) for image in images])


def cross_entropy(model: nn.Module, f: Tensor, g: Tensor, labels: Tensor) -> Tensor:
    logits = model.logit_scale.exp() * unit(f) @ unit(g).T
    return -logits.log_softmax(-1)[range(len(f)), labels].mean()


# ---------------------------------------------------------------------- the formulas


def kgcoop(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    ctx = model.tuners["default"].ctx
    rows = [plain_sentence(model, ctx, f"{name}.") for name in NAMES]
    g, g0 = torch.stack([plain_text(model, *row) for row in rows]), texts(model).detach()
    cosines = (unit(g) * unit(g0)).sum(-1)
    return cross_entropy(model, images_of(model, images), g, labels) + 8 * (1 - cosines.mean())


def kgcoop_with_a_template(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    ctx = model.tuners["default"].ctx
    rows = [plain_sentence(model, ctx, f"{name}.") for name in NAMES]
    g = torch.stack([plain_text(model, *row) for row in rows])
    cosines = (unit(g) * unit(texts(model, "a {} of red").detach())).sum(-1)
    return cross_entropy(model, images_of(model, images), g, labels) + 3 * (1 - cosines.mean())


def clip_adapter(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    tuner, f = model.tuners["default"], images_of(model, images)
    adapted = (tuner.up.weight @ (tuner.down.weight @ f.T).clamp(min=0)).clamp(min=0).T
    return cross_entropy(model, 0.2 * adapted + 0.8 * f, texts(model), labels)


def self_consistency(
    model: nn.Module, images: Tensor, labels: Tensor, f: Tensor, g: Tensor
) -> Tensor:
    """PromptSRC's loss. g (C, e), or (B, C, e) where each image has texts of its own."""
    every = torch.stack([texts(model, each("{}")) for each in OPENAI_IMAGENET_PROMPT[:60]])
    g0, f0, scale = every.mean(0).detach(), images_of(model, images), model.logit_scale.exp()
    own = g if g.dim() == 3 else g.expand(len(f), -1, -1)
    logits = scale * torch.stack([unit(b) @ unit(a) for a, b in zip(f, own, strict=True)])
    p, p0 = logits.softmax(-1), (scale * unit(f0.detach()) @ unit(g0).T).softmax(-1)
    return (
        -logits.log_softmax(-1)[range(len(f)), labels].mean()
        + 25 * (unit(g) - unit(g0)).abs().sum() / g.numel()
        + 10 * (unit(f) - unit(f0)).abs().sum() / f.numel()
        + (p0 * (p0.log() - p.log())).sum() / p.numel()
    )


def deep_prompts(model: nn.Module, images: Tensor, labels: Tensor, words: str = "") -> Tensor:
    """PromptSRC's loss for prompts of both towers; ``words`` stay after the context."""
    own = model.tuners["default"].prompts()
    rows = [plain_sentence(model, own.ctx, f"{words}{name}.") for name in NAMES]
    g = torch.stack([plain_text(model, *row, own.text_deep) for row in rows])
    f = [plain_image(model, image, own.image_shallow, own.image_deep) for image in images]
    return self_consistency(model, images, labels, torch.stack(f), g)


def regularised_coop(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    ctx = model.tuners["default"].ctx
    rows = [plain_sentence(model, ctx, f"{name}.") for name in NAMES]
    g = torch.stack([plain_text(model, *row) for row in rows])
    return self_consistency(model, images, labels, images_of(model, images).detach(), g)


def regularised_cocoop(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    tuner, f = model.tuners["default"], images_of(model, images).detach()
    net, g = tuner.meta_net, []
    for own in f:
        hidden = (net.linear1.weight @ (own / own.norm()) + net.linear1.bias).clamp(min=0)
        ctx = tuner.ctx + net.linear2.weight @ hidden + net.linear2.bias
        rows = [plain_sentence(model, ctx, f"{name}.") for name in NAMES]
        g.append(torch.stack([plain_text(model, *row) for row in rows]))
    return self_consistency(model, images, labels, f, torch.stack(g))


def clip_lora(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """With weights in place of the host's, row by row [q; k; v]."""
    tuner = model.tuners["default"]
    text = [(block.attn, "in_proj_weight") for block in model.transformer.resblocks]
    owners = {
        "image": [(block.attn.qkv, "weight") for block in model.visual.layers],
        "text": text,
    }
    before = []
    for i, seam in enumerate(tuner.chosen):
        owner, name = owners[seam.group].pop(0)
        parts = [2**-0.5 * tuner.up[i][j] @ tuner.down[i][j] for j in range(3)]
        before.append((owner, name, owner._parameters[name]))
        owner._parameters[name] = owner._parameters[name] + torch.cat(parts)
    loss = cross_entropy(model, images_of(model, images), texts(model), labels)
    for owner, name, value in before:
        owner._parameters[name] = value
    return loss


def mma(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """The scale of the gradient: s times what is detached, and what is not, of a branch whose
    parameters count 1/s times, is a sum of two terms with the same value.
    """
    tuner, blocks, s = model.tuners["default"], 3, 0.001
    found = {}
    for tower in ("text", "image"):

        def beside(i: int, x: Tensor, tower: str = tower) -> Tensor:
            if i < blocks - 2:
                return torch.zeros_like(x)

            def branch(x: Tensor, learned: bool) -> Tensor:
                for each in (f"{tower}_down", "shared", f"{tower}_up"):
                    linear = getattr(tuner, each)[i - blocks + 2]
                    weight, bias = linear.weight, linear.bias
                    weight, bias = (weight, bias) if learned else (weight.detach(), bias.detach())
                    x = (
                        (x @ weight.T + bias).clamp(min=0)
                        if "up" not in each
                        else x @ weight.T + bias
                    )
                return x

            with_weights = branch(x.detach(), True)
            return with_weights - with_weights.detach() + s * branch(x, False)

        if tower == "text":
            rows = [plain_sentence(model, CAPTION.format(name)) for name in NAMES]
            found[tower] = torch.stack([plain_text(model, *row, beside=beside) for row in rows])
        else:
            rows = [plain_image(model, image, beside=beside) for image in images]
            found[tower] = torch.stack(rows)
    return cross_entropy(model, found["image"], found["text"], labels)


def tcp(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    tuner, g = model.tuners["default"], []
    net, g0 = tuner.class_net, texts(model).detach()
    for name, own in zip(NAMES, g0, strict=True):
        hidden = net.linear1.weight @ (own / own.norm()) + net.linear1.bias
        hidden = hidden * torch.sigmoid(1.702 * hidden)
        made = (net.linear2.weight @ hidden + net.linear2.bias).reshape(4, -1)

        def before(i: int, x: Tensor, made: Tensor = made) -> Tensor:
            return torch.cat([x[:1], made, x[5:]]) if i == 1 else x

        row = plain_sentence(model, tuner.ctx, f"{name}, a type of star")
        g.append(plain_text(model, *row, before=before))
    cosines = (unit(torch.stack(g)) * unit(g0)).sum(-1).mean()
    f = images_of(model, images)
    return cross_entropy(model, f, torch.stack(g), labels) + 8 * (1 - cosines)


def mmrl(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    tuner, K = model.tuners["default"], 5

    def inserted(maps: nn.ModuleList, i: int, x: Tensor) -> Tensor:
        if i == 0:
            return x
        own = tuner.tokens @ maps[i - 1].weight.T + maps[i - 1].bias
        return torch.cat([x[:1], own, x[1 + (K if i > 1 else 0) :]])

    rows = [plain_sentence(model, CAPTION.format(name)) for name in NAMES]
    before = partial(inserted, tuner.text_maps)
    g = torch.stack([plain_text(model, *row, before=before) for row in rows])
    before = partial(inserted, tuner.image_maps)
    whole = torch.stack([plain_image(model, image, before=before, whole=True) for image in images])
    f = whole[:, 0] @ model.visual_proj.proj
    r = whole[:, 1 : 1 + K].mean(1) @ tuner.projection
    f0, g0 = images_of(model, images).detach(), texts(model).detach()
    away = [1 - (unit(a) * unit(b)).sum(-1).mean() for a, b in ((f, f0), (g, g0))]
    a_part, r_part = (cross_entropy(model, x, g, labels) for x in (f, r))
    return 0.7 * a_part + 0.3 * r_part + 6 * sum(away)


PLAIN: dict[str, tuple[dict, Callable[[nn.Module, Tensor, Tensor], Tensor]]] = {
    "KgCoOp": (dict(), kgcoop),
    "KgCoOp, another template": (
        dict(weight=3.0, teacher_template="a {} of red"),
        kgcoop_with_a_template,
    ),
    "CLIPAdapter": (dict(), clip_adapter),
    "PromptSRC": (dict(depth=3), deep_prompts),
    "MuDPT, regularised": (dict(depth=3, regularisation=True), deep_prompts),
    "CLIPMaPLe, regularised": (
        dict(depth=2, regularisation=True),
        partial(deep_prompts, words="of a "),
    ),
    "CLIPCoOp, regularised": (dict(num_tokens=4, regularisation=True), regularised_coop),
    "CoCoOp, regularised": (dict(regularisation=dict(text_weight=25.0)), regularised_cocoop),
    "CLIPLoRA": (dict(dropout=0.0), clip_lora),
    "MMA": (dict(depth=2), mma),
    "TCP": (dict(block=1, template="X X X X {}, a type of star"), tcp),
    "MMRL": (dict(weight=6.0, depth=2), mmrl),
}


@pytest.mark.parametrize("name", PLAIN)
def test_loss_and_gradients_equal_the_plain_formula(name):
    settings, plain = PLAIN[name]
    model = disturbed(dict(type=f"mmsdpt.{name.split(',')[0]}", **settings)).train()
    images, samples = make_images(3), make_samples(3)
    labels = torch.cat([sample.gt_label for sample in samples])
    found = torch.stack([*model(images, samples, mode="loss").values()]).sum()
    wanted = plain(model, images, labels)
    assert abs(found - wanted) < EXACT * abs(wanted)
    parameters = dict(model.tuners.named_parameters())
    a = torch.autograd.grad(found, parameters.values())
    b = torch.autograd.grad(wanted, parameters.values())
    for key, x, y in zip(parameters, a, b, strict=True):
        assert x.abs().max() > 1e-6, key
        assert (x - y).abs().max() < EXACT * max(1.0, y.abs().max().item()), key


# ---------------------------------------------------------------------- the teacher


def test_the_teacher_is_the_untouched_host_whatever_tuners_do():
    """Also in the middle of a pass in which they replace its weights."""
    adapters = dict(
        lora=dict(type="mmsdpt.LoRA", rank=2), prompts=dict(type="mmsdpt.MuDPT", num_tokens=2)
    )
    model = tuned_clip(None, tuners=adapters).double()
    images = make_images(2)
    with torch.no_grad():
        for tuner in model.tuners.values():
            tuner.prepare()
        for parameter in model.tuners.parameters():
            parameter.add_(0.3)
    (teacher,) = model.seams()["teacher"]
    for inside in (False, True):
        if inside:
            with model.tuned():
                f0, g0 = teacher.encode_images(images), teacher.encode_classes(NAMES)
                assert not torch.equal(model.encode_image(images), F.normalize(f0, dim=-1))
        else:
            f0, g0 = teacher.encode_images(images), teacher.encode_classes(NAMES)
        assert (f0 - images_of(model, images)).abs().max() < EXACT
        assert (g0 - texts(model)).abs().max() < EXACT
        assert not f0.requires_grad and not g0.requires_grad
        model._untuned_features.clear()


def test_the_teachers_texts_are_kept_until_classes_template_or_weights_change():
    model = tuned_clip(dict(type="mmsdpt.KgCoOp")).double()
    (teacher,) = model.seams()["teacher"]
    first = teacher.encode_classes(NAMES)
    assert teacher.encode_classes(NAMES) is first
    model.set_classes(NAMES, ["a {}.", "a photo of {}."])
    both = teacher.encode_classes(NAMES)
    assert (both - (texts(model, "a {}.") + texts(model, "a photo of {}.")) / 2).abs().max() < EXACT
    assert teacher.encode_classes(NAMES[:2], CAPTION).shape == (2, 96)
    assert (teacher.encode_classes(NAMES, CAPTION) - first).abs().max() == 0
    with torch.no_grad():
        model.ln_final.weight.mul_(2)
    assert (teacher.encode_classes(NAMES, CAPTION) - first).abs().max() > 1e-3


def test_regularisation_takes_the_weights_it_is_given_and_none_leave_the_loss_alone():
    images, samples = make_images(2), make_samples(2)
    weights = dict(text_weight=2.5, image_weight=0.0, logit_weight=3.0)
    found = {}
    for name, given in (("all", True), ("some", weights), ("none", False), ("absent", None)):
        model = disturbed(dict(type="mmsdpt.MuDPT", regularisation=given)).train()
        found[name] = model(images, samples, mode="loss")
    assert found["none"].keys() == found["absent"].keys() == {"loss"}
    assert (found["some"]["loss_text"] - found["all"]["loss_text"] / 10).abs() < EXACT
    assert (found["some"]["loss_logits"] - found["all"]["loss_logits"] * 3).abs() < EXACT
    assert found["some"]["loss_image"] == 0 < found["all"]["loss_image"]


def test_a_regularised_methods_file_fits_it_without_and_a_frozen_one_has_no_losses(tmp_path):
    model = disturbed(dict(type="mmsdpt.MuDPT", regularisation=True))
    path = save_tuner(model, tmp_path / "tuner.safetensors")
    plain = tuned_clip(dict(type="mmsdpt.MuDPT")).double()
    load_tuner(plain, path)
    assert torch.equal(plain(make_images(2)), model(make_images(2)))
    slots = dict(
        old=dict(type="mmsdpt.MuDPT", regularisation=True, frozen=True),
        new=dict(type="mmsdpt.CLIPAdapter"),
    )
    stacked = tuned_clip(None, tuners=slots).double().train()
    assert stacked(make_images(2), make_samples(2), mode="loss").keys() == {"loss"}


# ---------------------------------------------------------------------- each one's own


def test_clip_loras_dropout_acts_on_the_input_of_the_change_alone():
    """Half of every input, in place of a random half, halves the change; in testing it is whole."""
    model, images = disturbed(dict(type="mmsdpt.CLIPLoRA")), make_images(2)
    tuner = model.tuners["default"]
    with torch.no_grad():
        whole = model(images)
        tuner.dropout.forward = lambda x: 0.5 * x
        assert torch.equal(model(images), whole)
        halved = model.train()(images)
        for up in tuner.up:
            up.mul_(0.5)
        assert (model.eval()(images) - halved).abs().max() < EXACT
        assert (whole - halved).abs().max() > 1e-3


def test_clip_lora_draws_a_mask_for_each_of_query_key_and_value():
    tuner = tuned_clip(dict(type="mmsdpt.CLIPLoRA")).train().tuners["default"]
    masks = tuner.dropout(torch.ones(2, 5, 64).expand(3, 2, 5, 64)) > 0
    assert not torch.equal(masks[0], masks[1]) and not torch.equal(masks[1], masks[2])


def test_mmrl_predicts_other_classes_than_those_of_the_training_without_its_tokens(tmp_path):
    model, images = disturbed(dict(type="mmsdpt.MMRL")), make_images(2)
    model.train()(images)  # notes the classes
    path = save_tuner(model, tmp_path / "tuner.safetensors")
    fresh = tuned_clip(dict(type="mmsdpt.MMRL")).double()
    load_tuner(fresh, path)
    with torch.no_grad():
        state = ForwardState(images=images, class_names=NAMES)
        f, g = fresh.encode_image(images, state), fresh.encode_classes(state)
        a = fresh.logit_scale.exp() * f @ g.T
        r = state.image_rows[fresh.tuners["default"]].mean(1) @ fresh.tuners["default"].projection
        mixed = 0.7 * a + 0.3 * fresh.logit_scale.exp() * unit(r) @ g.T
        assert (fresh(images) - mixed).abs().max() < EXACT
        fresh.set_classes(NAMES[2:])
        assert (fresh(images) - mixed[:, 2:]).abs().max() < EXACT
        fresh.set_classes((*NAMES, "moon"))
        assert (fresh(images)[:, :4] - a).abs().max() < EXACT
        fresh.set_classes(NAMES)
        fresh.tuners["default"].use_tokens = False
        assert (fresh(images) - a).abs().max() < EXACT


def test_tcp_makes_prompts_for_classes_that_it_was_not_trained_on():
    model, images = disturbed(dict(type="mmsdpt.TCP")), make_images(2)
    with torch.no_grad():
        known = model(images)
        model.set_classes((*NAMES[:2], "moon"))
        assert (model(images)[:, :2] - known[:, :2]).abs().max() < EXACT
        other = tuned_clip(dict(type="mmsdpt.TCP", teacher_template="a {} of red")).double()
        other.tuners.load_state_dict(model.tuners.state_dict())
        assert (other(images)[:, :2] - known[:, :2]).abs().max() > 1e-6


def test_tip_adapters_votes_are_those_of_its_images_and_none_for_other_classes():
    model, images = (
        disturbed(dict(type="mmsdpt.TipAdapter", num_classes=4, shots=2)),
        make_images(3),
    )
    tuner = model.tuners["default"]
    features = torch.randn(6, 96, generator=torch.Generator().manual_seed(0)).double()
    labels = torch.tensor([0, 0, 1, 3, 2, 3])
    tuner.fill(features, labels, NAMES)
    with pytest.raises(InputError, match="shots=2, but the class 'raccoon' has 3 training images"):
        tuner.fill(features[:3], torch.tensor([1, 1, 1]), NAMES)
    keys, owners = unit(features)[[0, 1, 2, 4, 3, 5]], [0, 0, 1, 2, 3, 3]
    tuner.strengths.copy_(torch.tensor([1.5, 4.0]))
    with torch.no_grad():
        f, g = images_of(model, images), texts(model)
        wanted = model.logit_scale.exp() * unit(f) @ unit(g).T
        zero_shot = wanted.clone()
        for key, owner in zip(keys, owners, strict=True):
            wanted[:, owner] += 1.5 * torch.exp(-4 * (1 - unit(f) @ key))
        assert (model(images) - wanted).abs().max() < EXACT
        model.set_classes(NAMES[::-1])
        assert (model(images) - wanted.flip(1)).abs().max() < EXACT
        model.set_classes(("moon", NAMES[2]))
        assert (model(images)[:, 1] - wanted[:, 2]).abs().max() < EXACT
        with model.tuners_off():
            alone = model(images)
        assert torch.equal(model(images)[:, 0], alone[:, 0])
        # The search: the first of the best pairs, with the largest beta and alpha of 2 and 3.
        truth = torch.tensor([2, 0, 1])
        best = tuner.search(f, zero_shot, truth, (2.0, 3.0))
        votes = {}
        for i in range(200):
            for j in range(20):
                beta, alpha = 0.1 + i * 1.9 / 200, 0.1 + j * 2.9 / 20
                logits = zero_shot.clone()
                for key, owner in zip(keys, owners, strict=True):
                    logits[:, owner] += alpha * torch.exp(-beta * (1 - unit(f) @ key))
                votes[alpha, beta] = (logits.argmax(-1) == truth).sum().item() / 3
    first = max(votes, key=votes.__getitem__)
    assert best == max(votes.values())
    assert tuner.strengths.tolist() == pytest.approx(first, rel=1e-6)


def test_tip_adapter_says_once_which_classes_get_no_votes(caplog):
    model = disturbed(dict(type="mmsdpt.TipAdapter", num_classes=4, shots=2))
    tuner, images = model.tuners["default"], make_images(1)
    tuner.fill(torch.randn(4, 96).double(), torch.arange(4), NAMES)
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    with torch.no_grad():
        for names in (NAMES, NAMES[::-1], ("moon", NAMES[2]), ("moon", "sun"), ("moon", "sun")):
            model.set_classes(names)
            model(images)
    logger.removeHandler(caplog.handler)
    some, none = [each for each in caplog.messages if "TipAdapter" in each]
    assert some.endswith("none of 'moon': these get no votes")
    assert none.endswith("none of 'moon', 'sun': the model acts as without it")


# ---------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("method", "settings", "words"),
    [
        ("CLIPAdapter", dict(ratio=0.0), "ratio must be above 0 and at most 1"),
        ("CLIPAdapter", dict(reduction=97), "reduction must be at most 96"),
        (
            "MuDPT",
            dict(regularisation=1.0),
            "regularisation must be True, False or a dict of text_",
        ),
        ("CLIPCoOp", dict(regularisation=dict(weight=1.0)), "regularisation must be True"),
        ("CLIPLoRA", dict(dropout=1.0), "dropout must be from 0 to below 1"),
        ("MMA", dict(depth=4), "depth must be from 1 to 3"),
        ("MMA", dict(scale=0.0), "scale must be above 0"),
        ("MMRL", dict(depth=4), "depth must be from 1 to 3"),
        ("MMRL", dict(ratio=1.5), "ratio must be from 0 to 1"),
        ("TCP", dict(block=3), "block must be from 1 to 2"),
        ("TCP", dict(template="a {}."), "has 1 tokens before the class name, and num_tokens=4"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(method, settings, words):
    with pytest.raises(ValueError, match=words):
        tuned_clip(dict(type=f"mmsdpt.{method}", **settings))
