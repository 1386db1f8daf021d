"""DPT: class-aware visual prompts and their loss."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmsdpt.hosts.seams import ForwardState
from mmsdpt.registry import MODELS
from mmsdpt.tuners.dpt import ClassAwarePrompts, class_features
from tests.hosts.small_glip import TEXTS, build_mini_glip, make_images, make_samples
from tests.tuners.seams_of_glip_l import seams

SIZE = (64, 96)
# TEXTS have 2, 1 and 4 classes: with K = 2 one caption has as many, one fewer and one more.
K = 2


def randomise(module):
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module


def build(**tuner):
    tuner = dict(type="mmsdpt.DPT", num_class_prompts=K, **tuner)
    model = build_mini_glip(tuner=tuner).double().eval()
    randomise(model.tuners)
    return model


def inputs(model, texts=TEXTS):
    images, samples = make_images(len(texts), SIZE), make_samples(texts, SIZE)
    captions, class_maps = zip(*(model.class_prompt(s.text) for s in samples), strict=True)
    return ForwardState(images, captions, class_maps, samples)


def plain(net, x, classes):
    """Prompts (K, d) and scores (C,) of one image (N, d) with class features (C, d_text)."""
    d = x.shape[-1]

    def layer_norm(value, norm):
        centred = value - value.mean()
        return centred / (value.var(unbiased=False) + norm.eps).sqrt() * norm.weight + norm.bias

    prompts, scores = [], []
    for feature in classes:
        m = net.class_net.weight @ feature + net.class_net.bias
        sources = [*x, *net.tokens]
        logits = [
            (net.query.weight @ m) @ (net.key.weight @ y) / math.sqrt(len(net.query.weight))
            for y in sources
        ]
        weights = torch.stack(logits).softmax(0)
        a = net.value.weight @ sum(w * y for w, y in zip(weights, sources, strict=True))
        scores.append(layer_norm(a, net.score_norm) @ m / math.sqrt(d))
        prompts.append(layer_norm(a + m, net.norm))
    best = sorted(range(len(scores)), key=lambda c: -scores[c].item())[: len(net.tokens)]
    chosen = [prompts[c] for c in sorted(best)]
    return torch.stack(chosen + list(net.tokens[len(chosen) :])), torch.stack(scores)


def test_class_aware_prompts_are_the_plain_ones_for_few_and_many_classes():
    net = randomise(ClassAwarePrompts(text_width=5, width=8, num_prompts=3, key_width=4)).double()
    x, classes = torch.randn(4, 6, 8).double(), torch.randn(4, 5, 5).double()
    numbers = [3, 1, 5, 4]
    valid = torch.arange(5) < torch.tensor(numbers)[:, None]
    prompts, scores = net(x, classes, valid)
    for i, number in enumerate(numbers):
        expected, expected_scores = plain(net, x[i], classes[i, :number])
        assert torch.allclose(scores[i, :number], expected_scores, rtol=0, atol=1e-9)
        assert torch.allclose(prompts[i], expected, rtol=0, atol=1e-9)
    # The padding of a batch in which no caption has more than K classes is as harmless.
    short, _ = net(x[1:2], classes[1:2, :1], valid[1:2, :1])
    assert torch.allclose(short[0], prompts[1], rtol=0, atol=1e-12)


def test_a_class_has_the_mean_feature_of_its_own_tokens():
    hidden = torch.randn(2, 6, 4)
    maps = torch.zeros(2, 9), torch.zeros(1, 9)
    maps[0][0, 1:3], maps[0][1, 5], maps[1][0, 2:5] = 1, 1, 1
    features, valid = class_features(hidden, maps)
    assert valid.tolist() == [[True, True], [True, False]]
    assert torch.allclose(features[0, 0], hidden[0, 1:3].mean(0))
    assert torch.allclose(features[0, 1], hidden[0, 5])
    assert torch.allclose(features[1, 0], hidden[1, 2:5].mean(0))
    assert (features[1, 1] == 0).all()


def test_the_loss_asks_each_class_of_the_caption_whether_it_is_there():
    model = build(loss_weight=0.7)
    state = inputs(model)
    state.samples[2].gt_instances.labels[:] = torch.tensor([3, 0, 3, 3, 0])
    state.samples[0].gt_instances = state.samples[0].gt_instances[:0]  # an image without any
    model.encode(state.images, state)
    tuner = model.tuners.default
    (loss,) = tuner._losses(model.seams()["losses"][0], state, None).values()
    present = [[0, 0], [1], [1, 0, 0, 1]]
    scores = state.memo[tuner].scores
    assert sorted(scores) == [4, 5]
    terms = [
        F.softplus(score[i, c] * (1 - 2 * there))
        for score in scores.values()
        for i, classes in enumerate(present)
        for c, there in enumerate(classes)
    ]
    assert torch.allclose(loss, 0.7 * sum(terms) / len(terms), rtol=0, atol=1e-9)


def test_the_loss_trains_the_generators_and_the_context_but_no_early_prompt():
    model = build().train()
    state = inputs(model)
    losses = model(state.images, copy.deepcopy(state.samples), mode="loss")
    tuner = model.tuners.default
    gradients = dict(
        zip(
            (name for name, _ in tuner.named_parameters()),
            torch.autograd.grad(
                losses["loss_class_prompts"],
                list(tuner.parameters()),
                allow_unused=True,
                retain_graph=True,
            ),
            strict=True,
        )
    )
    last = gradients["class_aware.5.score_norm.weight"]
    assert last.abs().max() > 0 and gradients["context"].abs().max() > 0
    assert all(g is None for name, g in gradients.items() if name.startswith("visual"))
    # The detection losses train everything else.
    model.parse_losses(losses)[0].backward()
    for name, parameter in tuner.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_a_frozen_tuner_adds_no_loss():
    model = build_mini_glip(
        tuners=dict(
            first=dict(type="mmsdpt.DPT", frozen=True),
            second=dict(type="mmsdpt.SDPT", num_tokens=2),
        ),
    )
    samples = make_samples(TEXTS, SIZE)
    assert "loss_class_prompts" not in model(
        make_images(3, SIZE, torch.float32), samples, mode="loss"
    )


def test_an_image_pass_without_captions_says_what_is_missing():
    model = build()
    with pytest.raises(ValueError, match="need the encoded caption"):
        model.extract_feat(make_images(1, SIZE))


def test_a_loss_without_weight_is_refused():
    with pytest.raises(ValueError, match="loss_weight must be above 0"):
        MODELS.build(dict(type="mmsdpt.DPT", loss_weight=0), default_args=dict(seams=seams()))
