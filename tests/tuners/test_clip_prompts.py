"""VPT, independent V-L, MaPLe and MuDPT put their prompts where CLIP's prompt methods have them."""

import copy

import pytest
import torch

from tests.hosts import small_clip
from tests.hosts.small_clip import NAMES, make_images, make_samples, resnet_config
from tests.oracles.clip import plain_linear, plain_prompted_logits
from tests.tuners.prompted_clip import IMAGE_BLOCKS, TEXT_BLOCKS, assert_same_training, build_clip

METHODS = ("CLIPVPT", "IndependentVL", "CLIPMaPLe", "MuDPT")


def plain_prompts(tuner) -> tuple:
    """ctx, deep text, shallow and deep image prompts of a preset."""
    if type(tuner).__name__ != "CLIPMaPLe":
        return tuner.ctx, tuner.text_deep, tuner.image_shallow, tuner.image_deep
    deep = [
        plain_linear(linear, t) for linear, t in zip(tuner.t2i_deep, tuner.text_deep, strict=True)
    ]
    return tuner.ctx, tuner.text_deep, plain_linear(tuner.t2i_shallow, tuner.ctx), torch.stack(deep)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("depth", [None, 2])
@pytest.mark.parametrize("method", ["CLIPVPT", "IndependentVL", "CLIPMaPLe"])
def test_logits_and_gradients_equal_the_plain_form(method, depth, batch):
    model = build_clip(type=f"mmsdpt.{method}", depth=depth)
    tuner, images = model.tuners["default"], make_images(batch)
    blocks = IMAGE_BLOCKS if method == "CLIPVPT" else TEXT_BLOCKS
    assert tuner.depth == (depth or blocks)
    wanted = plain_prompted_logits(model, images, *plain_prompts(tuner))
    assert_same_training(model, model(images), wanted)
    assert tuner.num_trainable() == sum(parameter.numel() for parameter in tuner.parameters())


def test_names_of_what_is_learned():
    def names(method):
        return {name for name, _ in build_clip(type=method).tuners["default"].named_parameters()}

    assert names("mmsdpt.CLIPVPT") == {"image_shallow", "image_deep"}
    assert names("mmsdpt.IndependentVL") == {"ctx", "text_deep", "image_shallow", "image_deep"}
    deep = {f"t2i_deep.{j}.{part}" for j in range(TEXT_BLOCKS - 1) for part in ("weight", "bias")}
    shallow = {"t2i_shallow.weight", "t2i_shallow.bias"}
    assert names("mmsdpt.CLIPMaPLe") == {"ctx", "text_deep"} | shallow | deep


# ------------------------------------------------------------------ without prompts


@pytest.mark.parametrize("template", ["a photo of a {}.", "{} texture."])
@pytest.mark.parametrize("method", METHODS)
def test_without_prompts_the_logits_are_those_of_zero_shot(method, template):
    plain, images = build_clip(), make_images(2)
    plain.set_classes(plain.class_names, template)
    model = copy.deepcopy(plain)
    model._attach_tuners(dict(type=f"mmsdpt.{method}", num_tokens=0, frozen=True), None, None)
    tuner = model.tuners["default"]
    assert not list(tuner.parameters()) and tuner.num_trainable() == 0
    with torch.no_grad():
        assert torch.equal(model(images), plain(images))


def test_vpt_leaves_the_texts_to_the_host():
    model, images = build_clip(type="mmsdpt.CLIPVPT"), make_images(1)
    model.set_classes(model.class_names, "{} texture.")
    with torch.no_grad():
        assert torch.equal(model.encode_classes(), build_clip_texts("{} texture."))
        assert not torch.equal(model.encode_image(images), build_clip().encode_image(images))


def build_clip_texts(template: str) -> torch.Tensor:
    model = build_clip()
    return model.encode_text([template.format(name) for name in model.class_names])


# ------------------------------------------------------------------ where prompts act


@pytest.mark.parametrize("method", ["IndependentVL", "CLIPMaPLe", "MuDPT"])
def test_the_deep_prompts_of_a_depth_enter_that_block_and_none_before(method):
    """text_deep[i] and image_deep[i] are those of block i + 1."""
    model, images = build_clip(type=f"mmsdpt.{method}", depth=3), make_images(1)
    tuner = model.tuners["default"]
    towers = dict(
        text=[block.mlp for block in model.transformer.resblocks],
        image=[block.ln1 for block in model.visual.layers],
    )
    seen: dict = {}
    for tower, modules in towers.items():
        for i, module in enumerate(modules):
            # What enters an image block, or a text block's second half.
            module.register_forward_pre_hook(
                lambda module, args, key=(tower, i): seen.__setitem__(key, args[0])
            )

    @torch.no_grad()
    def inputs():
        seen.clear()
        model(images)
        return dict(seen)

    before = inputs()
    assert len(before) == TEXT_BLOCKS + IMAGE_BLOCKS
    for i in range(2):
        # Where text prompts make image prompts, and the reverse, both towers change at once.
        towers_of = {
            "text_deep": {"IndependentVL": {"text"}}.get(method, {"text", "image"}),
            "image_deep": {"IndependentVL": {"image"}}.get(method, {"text", "image"}),
        }
        for name, expected in towers_of.items():
            if getattr(tuner, name) is None:
                continue
            prompts = getattr(tuner, name).data
            kept = prompts[i].clone()
            prompts[i].neg_()
            after = inputs()
            prompts[i] = kept
            for (tower, j), x in after.items():
                # An image block joins its rows after its seam: its input has them already.
                unchanged = tower not in expected or j < i + 1
                difference = (x - before[tower, j]).abs().max()
                assert (difference < 1e-9) == unchanged, (name, i, tower, j)


@pytest.mark.parametrize("method", METHODS)
def test_prompts_in_only_the_first_block_travel_on(method):
    """With depth 1 nothing is replaced: the blocks see what has become of the shallow prompts."""
    model = build_clip(type=f"mmsdpt.{method}", depth=1, num_tokens=3)
    tuner = model.tuners["default"]
    assert tuner.text_deep is None and tuner.image_deep is None
    lengths = []
    for block in model.visual.layers:
        block.ln1.register_forward_pre_hook(lambda module, args: lengths.append(args[0].shape[1]))
    model(make_images(1))
    assert lengths == [1 + 16 + 3] * IMAGE_BLOCKS


def test_a_context_shorter_than_its_words_keeps_the_other_words_behind_it():
    for count, words in ((2, "a photo of a"), (4, ""), (6, "")):
        tuner = build_clip(type="mmsdpt.CLIPMaPLe", num_tokens=count).tuners["default"]
        assert tuner.config()["fixed_words"] == words


# ------------------------------------------------------------------ other hosts


def test_an_image_tower_without_blocks_takes_text_prompts():
    tuner = dict(type="mmsdpt.MuDPT", injection="none", num_image_tokens=0)
    config = resnet_config()
    config.update(tuner=tuner, classes=NAMES)
    model = small_clip.build_clip(config).double()
    model(make_images(2)).logsumexp(-1).sum().backward()
    tuner = model.tuners["default"]
    assert tuner.depth == 3
    assert all(parameter.grad.abs().max() > 0 for parameter in tuner.parameters())


# ------------------------------------------------------------------ lower precision


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(
    "options",
    [
        dict(type="mmsdpt.CLIPVPT"),
        dict(type="mmsdpt.IndependentVL"),
        dict(type="mmsdpt.CLIPMaPLe"),
        dict(type="mmsdpt.MuDPT"),
        dict(type="mmsdpt.MuDPT", injection="transformer"),
        dict(type="mmsdpt.MuDPT", injection="transformer", variant="figure"),
    ],
    ids=lambda options: " ".join(str(value) for value in options.values()),
)
def test_autocast_keeps_the_prompts_in_float32(options, dtype):
    model = copy.deepcopy(build_clip(**options)).float().train()
    # Prompts of the size that training starts from.
    with torch.no_grad():
        for parameter in model.tuners["default"].parameters():
            parameter *= 0.1 if parameter.dim() > 1 else 1
    images = make_images(2).float()
    samples = make_samples(2)
    wanted = model(images, samples, mode="loss")["loss"]
    with torch.autocast("cpu", dtype=dtype):
        loss = model(images, samples, mode="loss")["loss"]
    assert loss.dtype == torch.float32 and abs(loss - wanted) < 0.05
    loss.backward()
    for name, parameter in model.tuners["default"].named_parameters():
        assert parameter.dtype == torch.float32, name
        assert parameter.grad.isfinite().all() and parameter.grad.abs().max() > 0, name
