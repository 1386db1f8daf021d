"""CLIP as a host: MMPreTrain's names and numbers, classes, kept text features, image towers."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmpretrain.models.multimodal.clip import clip as toolbox
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmsdpt.hosts.clip import class_texts
from mmsdpt.hosts.seams import ForwardState
from mmsdpt.registry import MODELS
from mmsdpt.utils.errors import InputError
from tests.hosts.full_size import on_meta
from tests.hosts.small_clip import (
    MODEL_CONFIG,
    NAMES,
    build_clip,
    clip_config,
    make_images,
    make_samples,
    resnet_config,
    tuned_clip,
)
from tests.oracles.clip import plain_image, plain_logits, plain_sentence, plain_text

EXACT = 1e-9


class NoTokenizer:
    """Stands in for the toolbox's, which has to be downloaded."""

    def get_vocab(self) -> dict:
        return {}


@pytest.fixture
def build_toolbox(monkeypatch: pytest.MonkeyPatch) -> Callable[[ConfigDict], nn.Module]:
    """MMPreTrain's own model from the config of ours."""
    monkeypatch.setattr(toolbox.TOKENIZER, "build", lambda config: NoTokenizer())

    def build(config: ConfigDict) -> nn.Module:
        config = copy.deepcopy(config)
        config.update(type="mmpretrain.CLIPZeroShot")
        init_default_scope("mmpretrain")
        return MODELS.build(config).eval()

    return build


@pytest.fixture
def model() -> nn.Module:
    return build_clip().double()


@pytest.fixture
def text_passes() -> Callable[[nn.Module], list[int]]:
    """Lets a model count the texts that its text tower takes."""

    def watch(model: nn.Module) -> list[int]:
        counts: list[int] = []
        mlp = model.transformer.resblocks[-1].mlp
        mlp.register_forward_hook(lambda module, args, output: counts.append(len(output)))
        return counts

    return watch


# ---------------------------------------------------------------------- the toolbox


@pytest.mark.parametrize("name", ["clip_vit_b16", "clip_vit_b32", "clip_vit_l14"])
def test_names_and_shapes_are_mmpretrains(name, build_toolbox):
    config = Config.fromfile(str(MODEL_CONFIG.with_name(f"{name}.py"))).model
    init_default_scope("mmpretrain")
    with on_meta():
        ours, theirs = MODELS.build(config), build_toolbox(config)
    found, wanted = ({k: v.shape for k, v in m.state_dict().items()} for m in (ours, theirs))
    assert found == wanted
    assert {k for k, _ in ours.named_parameters()} == {k for k, _ in theirs.named_parameters()}


def test_weights_and_features_are_exchanged_with_mmpretrains_model(build_toolbox):
    ours, theirs = build_clip(), build_toolbox(clip_config())
    found = theirs.load_state_dict(ours.state_dict(), strict=True)
    assert not found.missing_keys and not found.unexpected_keys
    images = make_images(2).float()
    texts = [f"a photo of a {name}." for name in NAMES]
    with torch.no_grad():
        image, text = theirs.extract_feat(images, ours.tokenizer(texts))
        assert torch.allclose(ours.encode_image(images), image, atol=1e-6)
        assert torch.allclose(ours.encode_text(texts), text, atol=1e-6)


def test_images_of_other_sizes_get_positions_as_in_mmpretrain(build_toolbox):
    ours, theirs = build_clip(), build_toolbox(clip_config())
    theirs.load_state_dict(ours.state_dict())
    for size in (24, 32, 56):
        images = make_images(2, size).float()
        with torch.no_grad():
            wanted = F.normalize(theirs.extract_image_feat(images), dim=-1)
            assert torch.allclose(ours.encode_image(images), wanted, atol=1e-6)


# ---------------------------------------------------------------------- features


def test_features_are_those_of_the_plain_form_in_the_full_context(model):
    with torch.no_grad():
        images = make_images(2)
        for found, image in zip(model.encode_image(images), images, strict=True):
            wanted = F.normalize(plain_image(model, image), dim=0)
            assert (found - wanted).abs().max() < EXACT
        texts = ["cat", "a photo of a red circle.", "a photo of a hollow pentagon, yellow!"]
        for found, text in zip(model.encode_text(texts), texts, strict=True):
            rows, end = plain_sentence(model, text)
            assert len(rows) == model.context_length
            wanted = F.normalize(plain_text(model, rows, end), dim=0)
            assert (found - wanted).abs().max() < EXACT


@pytest.mark.parametrize("names", [NAMES, NAMES[:1], (NAMES[0],) * 3, ("", "cat")])
def test_logits_are_those_of_the_plain_form(model, names):
    """Whatever the texts have in common, which is computed once."""
    model.set_classes(names, "a photo of a {}.")
    images = make_images(2)
    texts = [plain_text(model, *plain_sentence(model, f"a photo of a {n}.")) for n in names]
    with torch.no_grad():
        for found, image in zip(model(images), images, strict=True):
            wanted = plain_logits(model, plain_image(model, image), texts)
            assert (found - wanted).abs().max() < 1e-8


def test_gradients_are_those_of_the_plain_form(model):
    """Of every parameter, also where the texts come in chunks that are computed again."""
    images, weights = make_images(1), torch.randn(1, len(NAMES), dtype=torch.float64)
    texts = [plain_text(model, *plain_sentence(model, f"a photo of a {n}.")) for n in NAMES]
    image = plain_image(model, images[0])
    names = [name for name, _ in model.named_parameters()]
    parameters = list(model.parameters())
    wanted = torch.autograd.grad((plain_logits(model, image, texts) * weights).sum(), parameters)
    for chunk in (6_000, 10):
        model.token_chunk = chunk
        found = torch.autograd.grad((model(images) * weights).sum(), parameters)
        for name, a, b in zip(names, found, wanted, strict=True):
            assert (a - b).abs().max() < EXACT * max(1, b.abs().max()), name
            assert b.abs().max() > 0, name


def test_only_texts_with_more_tokens_than_a_chunk_are_encoded_again(model, monkeypatch):
    """Neither padding nor the tokens that all texts begin with count."""
    names = ("circle", "a hollow circle")
    model.set_classes(names, "the {}.")
    own_tokens = sum(len(model.tokenizer.encode(f"{name}.")) + 1 for name in names)  # and the end
    calls: list[int] = []

    def again(run, *args, **kwargs):
        calls.append(1)
        return run(*args)

    monkeypatch.setattr(class_texts, "checkpoint", again)
    for token_chunk, wanted in ((own_tokens, 0), (own_tokens - 1, 2)):
        model.token_chunk = token_chunk
        model(make_images(1))
        assert len(calls) == wanted


def test_several_templates_are_averaged_as_normalised_features(model):
    templates = ["a photo of a {}.", "{}", "a drawing of a {} on a wall."]
    model.set_classes(NAMES, templates)
    with torch.no_grad():
        for c, found in enumerate(model.encode_classes()):
            parts = [
                plain_text(model, *plain_sentence(model, t.format(NAMES[c]))) for t in templates
            ]
            wanted = F.normalize(sum(F.normalize(part, dim=0) for part in parts), dim=0)
            assert (found - wanted).abs().max() < EXACT


# ---------------------------------------------------------------------- classes


@pytest.mark.parametrize(
    ("names", "template", "words"),
    [
        ("cat", None, "class names must be a list of strings, got 'cat'"),
        (["cat", 3], None, "class names must be a list of strings"),
        (["cat"], "a photo", r"the template 'a photo' must be a string with one"),
        (["cat"], "{} or {}", "must be a string with one"),
        (["cat"], ["{}.", "a photo"], "the template 'a photo' must"),
        (["cat"], [], "the list of templates is empty"),
    ],
)
def test_classes_and_templates_that_make_no_sense_are_refused(model, names, template, words):
    with pytest.raises(InputError, match=words) as caught:
        model.set_classes(names, template)
    assert "\n" not in str(caught.value)
    assert model.class_names == NAMES and model.templates == ("a photo of a {}.",)


def test_without_classes_it_asks_for_them():
    model = build_clip(clip_config())
    with pytest.raises(InputError, match="the model has no classes: call set_classes"):
        model(make_images(1).float())


def test_the_template_stays_until_another_is_given(model):
    model.set_classes(NAMES, "{}!")
    model.set_classes(["cat"])
    assert model.templates == ("{}!",)


@pytest.mark.parametrize("tuner", [None, dict(type="mmsdpt.CLIPCoOp")])
def test_a_text_that_is_too_long_is_refused_in_one_sentence(tuner):
    model = tuned_clip(tuner)
    model.set_classes(["cat", "cat " * 80])
    with pytest.raises(ValueError, match="'.*cat cat.*' has 8. tokens, .*room for") as caught:
        model(make_images(1).float())
    assert "\n" not in str(caught.value)


def test_a_vocabulary_of_another_size_than_the_weights_is_refused():
    with pytest.raises(InputError, match="the tokenizer has 4610 tokens, but vocab_size is 49408"):
        build_clip(clip_config(vocab_size=49408))


# ---------------------------------------------------------------------- modes


def test_the_loss_is_the_cross_entropy(model):
    images, samples = make_images(3), make_samples(3, first=1)
    wanted = F.cross_entropy(model(images), torch.tensor([1, 2, 3]))
    found = model(images, samples, mode="loss")
    assert list(found) == ["loss"] and torch.equal(found["loss"], wanted)


def test_predictions_are_samples_with_scores_and_labels(model):
    images = make_images(3)
    scores = model(images).softmax(dim=-1)
    for samples in (None, make_samples(3)):
        found = model(images, samples, mode="predict")
        for sample, score in zip(found, scores, strict=True):
            assert isinstance(sample, DataSample)
            assert torch.equal(sample.pred_score, score) and not sample.pred_score.requires_grad
            assert sample.pred_label.tolist() == [int(score.argmax())]
        if samples:
            assert [sample.gt_label.item() for sample in found] == [0, 1, 2]


def test_an_unknown_mode_is_an_error(model):
    with pytest.raises(RuntimeError, match="mode must be 'tensor', 'loss' or 'predict', got 'x'"):
        model(make_images(1), mode="x")


# ---------------------------------------------------------------------- kept text features


def test_the_text_tower_rests_while_nothing_that_it_depends_on_changes(text_passes):
    """In testing, and in training where only image prompts learn."""
    model = tuned_clip(dict(type="mmsdpt.CLIPVPT"))
    counts, images = text_passes(model), make_images(2).float()
    with torch.no_grad():
        model(images)
    once = len(counts)
    assert once > 0
    for _ in range(2):
        model(images, make_samples(2), mode="loss")["loss"].backward()
        model.predict(images)
    assert len(counts) == once
    model.set_classes(NAMES[:2])
    model.predict(images)
    assert len(counts) > once
    twice = len(counts)
    for names in (NAMES, NAMES[:2]):  # base and new classes in turn
        model.set_classes(names)
        model.predict(images)
    assert len(counts) == twice


def test_the_text_tower_works_while_something_learns_there(text_passes):
    model = tuned_clip(dict(type="mmsdpt.CLIPCoOp"))
    counts, images = text_passes(model), make_images(2).float()
    for step in range(1, 3):
        model(images, make_samples(2), mode="loss")
        assert len(counts) >= step
    with torch.no_grad():
        model(images)
        seen = len(counts)
        model(images)
        assert len(counts) == seen


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_keeps_features_of_its_own(duplicate):
    model, images = build_clip(), make_images(1).float()
    with torch.no_grad():
        before = model(images)
        twin = duplicate(model)
        twin.ln_final.bias.add_(1)
        assert not torch.equal(twin(images), before)
        assert torch.equal(model(images), before)


def test_training_follows_inference_mode():
    """What was kept there can be used where gradients are computed."""
    model, images = build_clip(), make_images(2).float()
    model.visual.requires_grad_(True)
    for part in (model.transformer, model.token_embedding, model.ln_final):
        part.requires_grad_(False)
    for parameter in (model.positional_embedding, model.text_projection, model.logit_scale):
        parameter.requires_grad_(False)
    with torch.inference_mode():
        model(images)
    loss = model(images, make_samples(2), mode="loss")["loss"]
    loss.backward()
    assert model.visual.cls_token.grad.abs().max() > 0
    model.requires_grad_(True)
    model(images, make_samples(2), mode="loss")["loss"].backward()
    assert model.token_embedding.weight.grad.abs().max() > 0


def test_text_features_of_other_texts_do_not_have_the_prompts():
    """The texts of encode_text are taken as they are."""
    host, model = build_clip(), tuned_clip(dict(type="mmsdpt.IndependentVL"))
    with torch.no_grad():
        texts = [f"a photo of a {name}." for name in NAMES]
        assert torch.equal(model.encode_text(texts), host.encode_text(texts))
        assert not torch.allclose(model.encode_classes(), host.encode_classes())


# ---------------------------------------------------------------------- other image towers


@pytest.fixture(scope="module")
def resnet() -> ConfigDict:
    return resnet_config()


@pytest.mark.parametrize("method", ["CLIPCoOp", "CoCoOp"])
def test_a_resnet_takes_methods_of_the_texts(resnet, method):
    config = copy.deepcopy(resnet)
    config.update(classes=NAMES, tuner=dict(type=f"mmsdpt.{method}"))
    model = build_clip(config)
    images, samples = make_images(2, size=64).float(), make_samples(2)
    losses = model.train()(images, samples, mode="loss")
    losses["loss"].backward()
    assert all(p.grad.abs().max() > 0 for p in model.tuners.parameters())
    with torch.no_grad():
        model.eval()
        found = model(images)
        state = ForwardState(images=images, class_names=NAMES)
        (pooled,) = model.visual_proj(model.visual(images)[-1].mean(dim=(2, 3)))
        image = model.encode_image(images, state)
        assert torch.allclose(image, F.normalize(pooled, dim=-1), atol=1e-6)
        text = model.encode_classes(state).expand(2, -1, -1)
        wanted = model.logit_scale.exp() * torch.einsum("be,bce->bc", image, text)
        assert torch.allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("method", ["FullFineTuning", "BitFit"])
def test_training_does_not_change_the_statistics_of_a_resnets_batch_norms(resnet, method):
    config = copy.deepcopy(resnet)
    config.update(classes=NAMES, tuner=dict(type=f"mmsdpt.{method}"))
    model = build_clip(config).train()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    losses = model(make_images(3, size=64).float(), make_samples(3), mode="loss")
    losses["loss"].backward()
    assert any(parameter.grad.abs().max() > 0 for parameter in model.tuners.parameters())
    assert any("running_mean" in name for name in before)
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())


@pytest.mark.parametrize("method", ["CLIPVPT", "IndependentVL", "CLIPMaPLe", "MuDPT"])
def test_a_resnet_is_refused_by_image_prompts(resnet, method):
    config = copy.deepcopy(resnet)
    config.update(tuner=dict(type=f"mmsdpt.{method}"))
    words = f"^{method} needs 'image_.*' seams, and CLIP has .*; image prompts need a VisionTrans"
    with pytest.raises(ValueError, match=words) as caught:
        build_clip(config)
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------------- training without a tuner


def test_without_a_tuner_all_of_it_trains_or_what_is_named():
    model = build_clip()
    assert all(p.requires_grad for p in model.parameters())
    model = build_clip(clip_config(classes=NAMES, trainable=["^logit_scale$", "^visual_proj"]))
    found = {name for name, p in model.named_parameters() if p.requires_grad}
    assert found == {"logit_scale", "visual_proj.proj"}
    loss = model(make_images(1).float(), make_samples(1), mode="loss")["loss"]
    loss.backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_model_in_half_precision_classifies(dtype):
    """Not only under autocast."""
    model, images = build_clip(), make_images(2).float()
    wanted: Tensor = model(images).detach()
    with torch.no_grad():
        found = model.to(dtype)(images.to(dtype))
    assert found.dtype == dtype
    assert (found.float() - wanted).abs().max() < 0.05 * wanted.abs().max()
