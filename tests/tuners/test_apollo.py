"""APoLLo's adapter equals its formula, and its consistency loss compares two views of a batch."""

import math

import pytest
import torch
from torch import nn

from mmsdpt.hosts.seams import ForwardState
from mmsdpt.registry import MODELS
from mmsdpt.tuners.apollo import CrossModalAdapter, contrast, photometric_view
from tests.hosts.small_glip import TEXTS, build_mini_glip, losses_of, make_images, make_samples
from tests.tuners.seams_of_glip_l import seams

IMAGE, TEXT, WIDTH, HEADS = 10, 6, 8, 2


def make_adapter() -> CrossModalAdapter:
    torch.manual_seed(0)
    adapter = CrossModalAdapter(IMAGE, TEXT, WIDTH, HEADS).double()
    for parameter in adapter.parameters():
        nn.init.normal_(parameter, std=0.5)
    return adapter


def features():
    """Two samples, 7 positions, captions of 5 and 3 tokens."""
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(2, 7, IMAGE, generator=generator).double()
    text = torch.randn(2, 5, TEXT, generator=generator).double()
    return image, text, torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])


def plain_norm(norm, x):
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt()
    return scaled * norm.weight + norm.bias


def plain_attention(attention, x, other):
    """(n, m) and (n', m), head by head."""
    query, key, value = (
        part @ linear.weight.T
        for part, linear in ((x, attention.query), (other, attention.key), (other, attention.value))
    )
    heads, size = [], WIDTH // HEADS
    for h in range(HEADS):
        part = slice(h * size, (h + 1) * size)
        scores = query[:, part] @ key[:, part].T / math.sqrt(size)
        heads.append(scores.softmax(-1) @ value[:, part])
    return torch.cat(heads, -1) @ attention.out.weight.T


def plain_adapter(adapter, image, text):
    """One sample without padding, as the formula is written."""
    hidden = {}
    for name, x in (("image", image), ("text", text)):
        side = getattr(adapter, name)
        h = x @ side.down.weight.T + side.down.bias
        h = 0.5 * h * (1 + torch.erf(h / math.sqrt(2)))
        normed = plain_norm(side.self_norm, h)
        hidden[name] = h + plain_attention(side.self_attention, normed, normed)
    outputs = []
    for name, other, x in (("image", "text", image), ("text", "image", text)):
        side = getattr(adapter, name)
        own = plain_norm(side.cross_norm, hidden[name])
        theirs = plain_norm(getattr(adapter, other).cross_norm, hidden[other])
        h = hidden[name] + plain_attention(side.cross_attention, own, theirs)
        outputs.append(x + h @ side.up.weight.T + side.up.bias)
    return outputs


def test_the_adapter_equals_its_plain_form_sample_by_sample():
    adapter = make_adapter()
    image, text, mask = features()
    found = adapter(image, text, mask)
    for i, length in enumerate(mask.sum(1)):
        wanted = plain_adapter(adapter, image[i], text[i, :length])
        assert (found[0][i] - wanted[0]).abs().max() < 1e-9
        assert (found[1][i, :length] - wanted[1]).abs().max() < 1e-9
        assert torch.equal(found[1][i, length:], text[i, length:])  # nothing at padding


def test_the_adapter_starts_as_the_identity():
    adapter = CrossModalAdapter(IMAGE, TEXT, WIDTH, HEADS).double()
    image, text, mask = features()
    found = adapter(image, text, mask)
    assert torch.equal(found[0], image) and torch.equal(found[1], text)


def make_glip(**options):
    """In training mode, with an adapter that does something."""
    model = build_mini_glip(tuner=dict(type="mmsdpt.Apollo", **options))
    torch.manual_seed(2)
    for side in (model.tuners["default"].adapter.image, model.tuners["default"].adapter.text):
        nn.init.normal_(side.up.weight, std=0.1)
    return model.double().train()


def consistency_of(model, seed=3):
    torch.manual_seed(seed)
    losses = losses_of(model, make_images(3), make_samples(TEXTS))
    return losses["loss_consistency"]


def test_consistency_is_the_cosine_distance_of_both_views_of_both_modalities():
    model = make_glip(consistency_weight=2.0)
    tuner = model.tuners["default"]
    captions = [model.class_prompt(text)[0] for text in TEXTS]
    first = ForwardState(make_images(3), captions)
    model.encode(first.images, first)
    seen = []

    def encode(images, state):
        assert not torch.equal(images, first.images) and state.memo == {}
        seen.append(state)
        return model.encode(images, state)

    (seam,) = model.seams()["losses"]
    found = tuner.consistency(seam, first, encode)["loss_consistency"]
    (second,) = seen

    def plain(a, b):
        cosines = [torch.dot(x, y) / (x.norm() * y.norm()) for x, y in zip(a, b, strict=True)]
        return 1 - torch.stack(cosines).mean()

    (image, text, mask), (image_2, text_2, _) = first.memo[tuner], second.memo[tuner]
    real = mask.bool()
    wanted = 2 * (
        plain(image.flatten(0, 1), image_2.flatten(0, 1)) + plain(text[real], text_2[real])
    )
    assert (found - wanted).abs() < 1e-9
    assert found > 1e-4
    assert not torch.equal(text, text_2)  # through the cross-attention to the image


def plain_contrast(x, original, temperature):
    """Row by row, as the formula is written."""
    rows = []
    for i in range(len(x)):
        p, q = (
            torch.stack([torch.cosine_similarity(row, other, dim=0) for other in original])
            .div(temperature)
            .softmax(0)
            for row in (x[i], original[i])
        )
        m = (p + q) / 2
        js = ((p * (p / m).log()).sum() + (q * (q / m).log()).sum()) / 2
        rows.append(js - p[i].log())
    return torch.stack(rows).mean()


def test_consistency_with_the_original_equals_its_plain_form():
    model = make_glip(compare="original", consistency_weight=2.0, temperature=0.2)
    tuner = model.tuners["default"]
    captions = [model.class_prompt(text)[0] for text in TEXTS]
    first = ForwardState(make_images(3), captions)
    model.encode(first.images, first)
    (seam,) = model.seams()["losses"]
    found = tuner.consistency(seam, first, model.encode)["loss_consistency"]

    bare = build_mini_glip().double().eval()
    with torch.no_grad():
        text_0 = bare.encode_text(captions)["hidden"]
        image_0 = bare.backbone(first.images)[-1].flatten(2).transpose(1, 2)
    image, text, mask = first.memo[tuner]
    wanted = 0.0
    for i, length in enumerate(mask.sum(1)):
        wanted += plain_contrast(image[i], image_0[i], 0.2)
        wanted += plain_contrast(text[i, :length], text_0[i, :length], 0.2)
    assert (found - 2 * wanted / len(mask)).abs() < 1e-9
    found.backward()
    silent = [n for n, p in tuner.named_parameters() if p.grad is None or not p.grad.any()]
    assert not silent
    # The tuner acts again afterwards.
    again = ForwardState(make_images(3), captions)
    model.encode(again.images, again)
    assert torch.equal(again.memo[tuner][0], image)


def test_a_row_that_is_its_original_is_told_from_the_others_alone():
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)).double()
    similarity = torch.nn.functional.normalize(x, dim=-1)
    nce = -(similarity @ similarity.T / 0.1).log_softmax(-1).diagonal().mean()
    assert (contrast(x, x, 0.1) - nce).abs() < 1e-12  # no divergence


def test_equal_views_are_consistent():
    assert consistency_of(make_glip(jitter=0.0)).abs() < 1e-12
    assert consistency_of(make_glip(jitter=0.4)) > 1e-4


def test_consistency_trains_the_prompts_of_both_encoders_and_the_adapter():
    model = make_glip()
    tuner = model.tuners["default"]
    consistency_of(model).backward()
    silent = [n for n, p in tuner.named_parameters() if p.grad is None or not p.grad.any()]
    assert not silent


@pytest.mark.parametrize("case", ["weight 0", "frozen", "evaluation"])
def test_without_need_no_second_view_is_computed(case):
    options = dict(weight=dict(consistency_weight=0.0), frozen=dict(frozen=True))
    model = make_glip(**options.get(case.split()[0], {}))
    if case == "evaluation":
        model.eval()
    passes = []
    model.backbone.register_forward_hook(lambda *_: passes.append(1))
    losses = losses_of(model, make_images(3), make_samples(TEXTS))
    assert "loss_consistency" not in losses and len(passes) == 1


def test_a_view_changes_contrast_and_colour_and_leaves_padding_and_places():
    images = make_images(4)
    images[:, :, 50:] = 0  # padding
    torch.manual_seed(0)
    view = photometric_view(images, 0.4)
    assert not view[:, :, 50:].any()
    for image, changed in zip(images[:, :, :50], view[:, :, :50], strict=True):
        # One gain for all channels, one shift for each: fitted by least squares.
        x, y = image.flatten(1), changed.flatten(1)
        centred = x - x.mean(1, keepdim=True)
        gain = (centred * (y - y.mean(1, keepdim=True))).sum(1) / centred.square().sum(1)
        shift = y.mean(1) - gain * x.mean(1)
        assert (gain - gain[0]).abs().max() < 1e-9
        assert (y - gain[:, None] * x - shift[:, None]).abs().max() < 1e-9
        assert 0.6 <= gain[0] <= 1.4 and shift.abs().max() <= 0.4
        assert len({round(s.item(), 9) for s in shift}) == 3
    assert torch.equal(photometric_view(images, 0.0), images)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(bottleneck=6), "positive multiple of num_heads, got 6 and 4"),
        (dict(bottleneck="64"), "bottleneck must be a positive integer, got '64'"),
        (dict(consistency_weight=-1.0), "consistency_weight must be at least 0"),
        (dict(jitter=1.0), r"jitter in \[0, 1\)"),
        (dict(compare="text"), "compare must be view or original"),
        (dict(temperature=0.0), "temperature positive"),
        (dict(depth=20), "depth must be from 1 to 12"),
    ],
)
def test_settings_that_make_no_sense_are_refused_with_a_sentence(options, words):
    with pytest.raises(ValueError, match=words):
        MODELS.build(dict(type="mmsdpt.Apollo", **options), default_args=dict(seams=seams()))
