"""X-MHA: the re-associated form equals MMDetection's plain form."""

import pytest
import torch
from mmdet.models.utils.vlfuse_helper import BiMultiHeadAttention as PlainAttention
from mmdet.models.utils.vlfuse_helper import VLFuse as PlainVLFuse

from mmsdpt.hosts.glip.fusion import VLFuse
from mmsdpt.hosts.grounding.fusion import BiMultiHeadAttention, _ClampScores
from mmsdpt.hosts.grounding.seams import FusionTokens
from mmsdpt.hosts.recompute import recompute

V, L, E, H = 12, 20, 48, 4


class FixedTokens:
    """A stand-in tuner: offers the same tokens to every layer."""

    def __init__(self, image, text, own_words_only=False):
        self.enabled = True
        self.own_words_only = own_words_only
        self.offer = FusionTokens(image=image, text=text)

    def __call__(self, seam):
        return self.offer


def make_pair(dtype=torch.float64, dropout=0.1):
    plain = PlainAttention(V, L, E, H, dropout=dropout).to(dtype)
    for p in plain.parameters():
        torch.nn.init.normal_(p, std=0.3)
    fast = BiMultiHeadAttention(V, L, E, H, dropout=dropout).to(dtype)
    missing = fast.load_state_dict(plain.state_dict())
    assert not missing.missing_keys and not missing.unexpected_keys
    return plain.eval(), fast.eval()


def inputs(batch, dtype=torch.float64, positions=37, words=9):
    vision = torch.randn(batch, positions, V, dtype=dtype, requires_grad=True)
    lang = torch.randn(batch, words, L, dtype=dtype, requires_grad=True)
    mask = torch.ones(batch, words, dtype=torch.long)
    for i in range(batch):
        mask[i, words - i :] = 0  # ragged
    return vision, lang, mask


def gradients(outputs, *tensors):
    weights = [torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out) for out in outputs]
    return torch.autograd.grad(
        sum((o * w).sum() for o, w in zip(outputs, weights, strict=True)), tensors
    )


def close(a, b, relative):
    return (a - b).abs().max() <= relative * max(1.0, b.abs().max().item())


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("dtype", "relative"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_reassociated_attention_equals_the_plain_form(batch, dtype, relative):
    plain, fast = make_pair(dtype)
    vision, lang, mask = inputs(batch, dtype)
    expected = plain(vision, lang, attention_mask_l=mask)
    found = fast(vision, lang, attention_mask_l=mask)
    real = mask.bool()
    for a, b in ((found[0], expected[0]), (found[1][real], expected[1][real])):
        assert close(a, b, relative)
    parameters = list(plain.parameters()), list(fast.parameters())
    before = gradients((expected[0], expected[1][real]), vision, lang, *parameters[0])
    after = gradients((found[0], found[1][real]), vision, lang, *parameters[1])
    for a, b in zip(after, before, strict=True):
        assert close(a, b, relative)


def test_an_image_mask_hides_positions_from_the_text_as_in_the_plain_form():
    plain, fast = make_pair()
    vision, lang, mask = inputs(2)
    hidden = torch.zeros(2, vision.shape[1], dtype=torch.bool)
    hidden[:, 5:9] = True
    expected = plain(vision, lang, attention_mask_v=hidden, attention_mask_l=mask)
    found = fast(vision, lang, attention_mask_v=hidden, attention_mask_l=mask)
    assert close(found[1], expected[1], 1e-9)


@pytest.mark.parametrize("batch", [1, 3])
def test_tokens_are_extra_keys_and_values_whose_outputs_are_dropped(batch):
    """The plain form of SDPT: append the tokens to both inputs, attend, cut their rows off."""
    plain, fast = make_pair()
    vision, lang, mask = inputs(batch)
    image_tokens = torch.randn(3, V, dtype=torch.float64, requires_grad=True)
    text_tokens = torch.randn(5, L, dtype=torch.float64, requires_grad=True)
    tuner = FixedTokens(image_tokens, text_tokens)
    fast.seam.connect(tuner, tuner)

    long_vision = torch.cat([vision, image_tokens.expand(batch, -1, -1)], dim=1)
    long_lang = torch.cat([lang, text_tokens.expand(batch, -1, -1)], dim=1)
    long_mask = torch.cat([mask, mask.new_ones(batch, 5)], dim=1)
    expected_v, expected_l = plain(long_vision, long_lang, attention_mask_l=long_mask)
    expected = expected_v[:, : vision.shape[1]], expected_l[:, : lang.shape[1]]
    found = fast(vision, lang, attention_mask_l=mask)
    for a, b in zip(found, expected, strict=True):
        assert close(a, b, 1e-9)
    tensors = (vision, lang, image_tokens, text_tokens)
    for a, b in zip(gradients(found, *tensors), gradients(expected, *tensors), strict=True):
        assert close(a, b, 1e-9)
    with torch.no_grad():  # folded constants
        for _ in range(2):
            for a, b in zip(fast(vision, lang, attention_mask_l=mask), expected, strict=True):
                assert close(a, b, 1e-9)
        text_tokens.mul_(2.0)
        changed = fast(vision, lang, attention_mask_l=mask)[0]
    assert not close(changed, expected[0], 1e-3), "folded keys must follow a change of the tokens"


def test_a_switched_off_tuner_leaves_the_output_bit_for_bit():
    _, fast = make_pair(torch.float32)
    vision, lang, mask = inputs(2, torch.float32)
    before = fast(vision, lang, attention_mask_l=mask)
    tuner = FixedTokens(torch.randn(3, V), torch.randn(3, L))
    fast.seam.connect(tuner, tuner)
    assert not torch.equal(fast(vision, lang, attention_mask_l=mask)[0], before[0])
    tuner.enabled = False
    after = fast(vision, lang, attention_mask_l=mask)
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))


def test_dropout_has_the_plain_forms_distribution():
    """Same mean and spread over many draws; single draws differ because the random numbers are laid
    out differently.
    """
    plain, fast = make_pair(torch.float32, dropout=0.5)
    plain.train(), fast.train()
    vision, lang, mask = (x.detach() for x in inputs(1, torch.float32, positions=5, words=4))
    vision, lang, mask = (
        vision.expand(4000, -1, -1),
        lang.expand(4000, -1, -1),
        mask.expand(4000, -1),
    )
    for a, b in zip(fast(vision, lang, None, mask), plain(vision, lang, None, mask), strict=True):
        spread = b.std(0)
        assert torch.all((a.mean(0) - b.mean(0)).abs() < 6 * spread / 4000**0.5 * 2**0.5)
        assert torch.allclose(a.std(0), spread, rtol=0.15)


@pytest.mark.parametrize("recomputed", [False, True])
def test_a_fusion_layer_equals_the_plain_layer_on_odd_pyramids(recomputed):
    plain = PlainVLFuse(V, L, E, H, dropout=0.0).double()
    fast = VLFuse(V, L, E, H, dropout=0.0).double()
    fast.load_state_dict(plain.state_dict())
    sizes = [(7, 9), (4, 5), (2, 3), (1, 2), (1, 1)]
    levels = [torch.randn(2, V, *size, dtype=torch.float64, requires_grad=True) for size in sizes]
    _, lang, mask = inputs(2)
    expected = plain(dict(visual=levels, lang=dict(hidden=lang, masks=mask)))
    given = dict(hidden=lang, masks=mask)
    pyramid = dict(visual=levels, lang=given)
    found = recompute(fast, pyramid) if recomputed else fast(pyramid)
    assert given["hidden"] is lang, "the caller's dict must be left alone: it may be a cache"
    pairs = [*zip(found["visual"], expected["visual"], strict=True)]
    pairs.append((found["lang"]["hidden"][mask.bool()], expected["lang"]["hidden"][mask.bool()]))
    for a, b in pairs:
        assert a.shape == b.shape
        assert close(a, b, 1e-9)
    parameters = list(fast.parameters()), list(plain.parameters())
    after = gradients([a for a, _ in pairs], lang, *levels, *parameters[0])
    before = gradients([b for _, b in pairs], lang, *levels, *parameters[1])
    for a, b in zip(after, before, strict=True):
        assert close(a, b, 1e-9)


def test_checkpointing_keeps_the_gradient_of_tokens_when_all_inputs_are_frozen():
    layer = VLFuse(V, L, E, H).requires_grad_(False).eval()
    tokens = torch.randn(3, V, requires_grad=True)
    tuner = FixedTokens(tokens, None)
    layer.seam.connect(tuner, tuner)
    lang = dict(hidden=torch.randn(1, 4, L), masks=torch.ones(1, 4, dtype=torch.long))
    out = recompute(layer, dict(visual=[torch.randn(1, V, 3, 3)], lang=lang))
    out["lang"]["hidden"].sum().backward()
    assert tokens.grad is not None and tokens.grad.abs().sum() > 0


def test_scores_are_clamped_in_place_as_torch_does():
    scores = torch.tensor([-6e4, -4e4, 1.5, float("inf"), float("nan")], dtype=torch.float64)
    found, plain = scores.clone().requires_grad_(), scores.clone().requires_grad_()
    given = found * 1
    out, expected = _ClampScores.apply(given), plain.clamp(-5e4, 5e4)
    assert out.data_ptr() == given.data_ptr()
    torch.testing.assert_close(out, expected, rtol=0, atol=0, equal_nan=True)
    weights = torch.arange(1.0, 6.0, dtype=torch.float64)
    (out * weights)[:4].sum().backward()
    (expected * weights)[:4].sum().backward()
    torch.testing.assert_close(found.grad, plain.grad, rtol=0, atol=0)


def test_of_the_scores_only_probabilities_and_a_byte_each_are_kept():
    """Both directions' probabilities; the 39 x 3 x 7 scores themselves in no other float tensor."""
    layer = BiMultiHeadAttention(V, L, E, H).requires_grad_(False).eval()
    vision = torch.randn(1, 39, V, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        layer(vision, torch.randn(1, 7, L))
    scores = {x.data_ptr(): x for x in kept if x.numel() == 39 * H * 7}
    assert sorted(x.element_size() for x in scores.values()) == [1, 4, 4]


def test_half_precision_autocast_stays_finite():
    _, fast = make_pair(torch.float32)
    vision, lang, mask = inputs(2, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = fast(vision * 30, lang * 30, attention_mask_l=mask)
    assert all(torch.isfinite(x).all() for x in found)
