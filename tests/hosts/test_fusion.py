"""X-MHA: the re-associated form equals MMDetection's plain form."""

import pytest
import torch
from mmdet.models.utils.vlfuse_helper import BiMultiHeadAttention as PlainAttention
from mmdet.models.utils.vlfuse_helper import VLFuse as PlainVLFuse

from mmsdpt.hosts.glip.fusion import VLFuse
from mmsdpt.hosts.grounding import cross_attention, fusion
from mmsdpt.hosts.grounding.fusion import BiMultiHeadAttention
from mmsdpt.hosts.grounding.seams import FusionTokens
from mmsdpt.hosts.recompute import recompute
from tests.oracles.compare import assert_close, gradients

V, L, E, H = 12, 20, 48, 4
at_once_and_in_blocks = pytest.mark.parametrize("in_blocks", [False, True], indirect=True)


@pytest.fixture
def in_blocks(request, monkeypatch):
    """Whether few scores, too, are computed in blocks of rows."""
    if request.param:
        monkeypatch.setattr(fusion, "FEW_SCORES", 0)
    return request.param


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


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("dtype", "relative"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
@at_once_and_in_blocks
def test_reassociated_attention_equals_the_plain_form(in_blocks, batch, dtype, relative):
    plain, fast = make_pair(dtype)
    vision, lang, mask = inputs(batch, dtype)
    expected = plain(vision, lang, attention_mask_l=mask)
    found = fast(vision, lang, attention_mask_l=mask)
    real = mask.bool()
    found, expected = ((x[0], x[1][real]) for x in (found, expected))
    assert_close(found, expected, relative)
    before = gradients(expected, [vision, lang, *plain.parameters()])
    after = gradients(found, [vision, lang, *fast.parameters()])
    assert_close(after, before, relative)


@at_once_and_in_blocks
def test_an_image_mask_hides_positions_from_the_text_as_in_the_plain_form(in_blocks):
    plain, fast = make_pair()
    vision, lang, mask = inputs(2)
    hidden = torch.zeros(2, vision.shape[1], dtype=torch.bool)
    hidden[:, 5:9] = True
    expected = plain(vision, lang, attention_mask_v=hidden, attention_mask_l=mask)
    found = fast(vision, lang, attention_mask_v=hidden, attention_mask_l=mask)
    assert_close(found[1:], expected[1:])


@pytest.mark.parametrize("batch", [1, 3])
@at_once_and_in_blocks
def test_tokens_are_extra_keys_and_values_whose_outputs_are_dropped(in_blocks, batch):
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
    assert_close(found, expected)
    tensors = (vision, lang, image_tokens, text_tokens)
    assert_close(gradients(found, tensors), gradients(expected, tensors))
    with torch.no_grad():  # folded constants
        for _ in range(2):
            assert_close(fast(vision, lang, attention_mask_l=mask), expected)
        text_tokens.mul_(2.0)  # which folded keys must follow
        changed = fast(vision, lang, attention_mask_l=mask)[0]
    assert (changed - expected[0]).abs().max() > 1e-3 * max(1.0, expected[0].abs().max().item())


@at_once_and_in_blocks
def test_a_switched_off_tuner_leaves_the_output_bit_for_bit(in_blocks):
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
    outputs = list(zip(*pairs, strict=True))
    assert_close(*outputs)
    after = gradients(outputs[0], [lang, *levels, *fast.parameters()])
    assert_close(after, gradients(outputs[1], [lang, *levels, *plain.parameters()]))


def test_checkpointing_keeps_the_gradient_of_tokens_when_all_inputs_are_frozen():
    layer = VLFuse(V, L, E, H).requires_grad_(False).eval()
    tokens = torch.randn(3, V, requires_grad=True)
    tuner = FixedTokens(tokens, None)
    layer.seam.connect(tuner, tuner)
    lang = dict(hidden=torch.randn(1, 4, L), masks=torch.ones(1, 4, dtype=torch.long))
    out = recompute(layer, dict(visual=[torch.randn(1, V, 3, 3)], lang=lang))
    out["lang"]["hidden"].sum().backward()
    assert tokens.grad is not None and tokens.grad.abs().sum() > 0


@at_once_and_in_blocks
def test_scores_beyond_the_bound_take_no_gradient(in_blocks):
    plain, fast = make_pair()
    vision, lang, mask = inputs(2)
    # MMDetection clamps with autograd's clamp; a third of these scores are beyond the bound.
    found, expected = (x(300 * vision, 300 * lang, None, mask) for x in (fast, plain))
    real = mask.bool()
    found, expected = ((x[0], x[1][real]) for x in (found, expected))
    assert_close(found, expected)
    assert_close(gradients(found, [vision, lang]), gradients(expected, [vision, lang]))


@pytest.mark.parametrize("rows_of_a_block", [1, 5, 38, 100])
def test_blocks_of_rows_equal_all_rows_at_once(rows_of_a_block, monkeypatch):
    """With masks of both sides; the first blocks are all hidden from the words."""
    _, layer = make_pair()
    vision, lang, mask = inputs(2)
    columns = H * (lang.shape[1] + 4)
    monkeypatch.setattr(cross_attention, "_ON_CPU", rows_of_a_block * 2 * columns)
    sizes = [x.shape[1] for x, _ in cross_attention._blocks(torch.zeros(2, 38, 1), None, columns)]
    assert sum(sizes) == 38 and max(sizes) <= rows_of_a_block
    hidden = torch.zeros(2, vision.shape[1], dtype=torch.bool)
    hidden[0, :11] = hidden[1, 30:] = True
    tokens = torch.randn(1, V, dtype=torch.float64, requires_grad=True)
    more_words = torch.randn(4, L, dtype=torch.float64, requires_grad=True)
    tuner = FixedTokens(tokens, more_words)
    layer.seam.connect(tuner, tuner)
    tensors = (vision, lang, tokens, more_words, *layer.parameters())
    results = []
    for few in (0, 10**9):
        monkeypatch.setattr(fusion, "FEW_SCORES", few)
        found = layer(vision, lang, hidden, mask)
        results.append([*found, *gradients(found, tensors)])
    assert_close(*results, relative=1e-12)


def test_no_scores_are_kept_of_blocks_and_only_probabilities_of_all_at_once(monkeypatch):
    layer = BiMultiHeadAttention(V, L, E, H).requires_grad_(False).eval()
    vision = torch.randn(1, 39, V, requires_grad=True)

    def sizes_kept():
        kept = {}
        with torch.autograd.graph.saved_tensors_hooks(lambda x: _note(kept, x), lambda x: x):
            layer(vision, torch.randn(1, 7, L))
        return [x.numel() for x in kept.values()]

    assert sizes_kept().count(39 * H * 7) == 2
    monkeypatch.setattr(fusion, "FEW_SCORES", 0)
    assert max(sizes_kept()) < 39 * H * 7


def _note(kept, tensor):
    kept[tensor.data_ptr()] = tensor
    return tensor


@at_once_and_in_blocks
def test_under_autocast_products_alone_are_in_half_precision(in_blocks):
    """Its error is that of rounded factors, not of rounded scores or probabilities."""
    _, fast = make_pair(torch.float32)
    vision, lang, mask = inputs(2, torch.float32)
    expected = fast(vision, lang, attention_mask_l=mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = fast(vision, lang, attention_mask_l=mask)
    after, before = (gradients(x, [vision, lang]) for x in (found, expected))
    for a, b in (*zip(found, expected, strict=True), *zip(after, before, strict=True)):
        assert (a - b).abs().max() < 0.03 * b.abs().max()


@at_once_and_in_blocks
def test_half_precision_autocast_stays_finite(in_blocks):
    _, fast = make_pair(torch.float32)
    vision, lang, mask = inputs(2, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = fast(vision * 30, lang * 30, attention_mask_l=mask)
    assert all(torch.isfinite(x).all() for x in found)
