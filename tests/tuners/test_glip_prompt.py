"""GLIP's prompt tuning adds an offset to each token's features, and to nothing else."""

import pytest
import torch

from mmsdpt.hosts.grounding.swin import SwinTransformer  # noqa: F401  registers the backbone
from mmsdpt.hosts.seams import FeatureSeam, ForwardState
from mmsdpt.tuners.glip_prompt import GLIPPrompt
from tests.hosts.small_glip import TEXTS, build_mini_glip, make_images, make_samples


def attach(max_tokens=6, width=4):
    seam = FeatureSeam(0, dict(width=width, max_tokens=max_tokens), kind="text_features")
    tuner = GLIPPrompt(seams={"text_features": [seam]})
    with torch.no_grad():
        tuner.offset.normal_()
    return seam, tuner.double()


def language(*lengths, width=4):
    longest = max(lengths)
    masks = torch.stack([(torch.arange(longest) < length).long() for length in lengths])
    hidden, embedded = torch.randn(2, len(lengths), longest, width).double() * masks[..., None]
    return dict(hidden=hidden, embedded=embedded, masks=masks)


def test_each_real_token_gets_the_offset_of_its_position():
    seam, tuner = attach()
    features = language(5, 2, 3)
    before = {name: value.clone() for name, value in features.items()}
    found = seam.change(features)
    for name in ("hidden", "embedded"):
        for b, length in enumerate((5, 2, 3)):
            for i in range(5):
                offset = tuner.offset[i] if i < length else 0
                assert torch.equal(found[name][b, i], before[name][b, i] + offset)
    assert torch.equal(found["masks"], before["masks"])
    for name, value in before.items():  # what was given may be a cached caption's
        assert torch.equal(features[name], value)


def test_the_offsets_start_from_zero_and_change_nothing():
    seam = FeatureSeam(0, dict(width=768, max_tokens=256), kind="text_features")
    tuner = GLIPPrompt(seams={"text_features": [seam]})
    features = language(7, 3, width=768)
    found = seam.change(features)
    assert all(torch.equal(found[name], value) for name, value in features.items())
    assert tuner.num_trainable() == tuner.offset.numel() == 256 * 768


@pytest.fixture(scope="module")
def glip():
    model = build_mini_glip(
        backbone=dict(type="mmsdpt.SwinTransformer"), tuner=dict(type="mmsdpt.GLIPPrompt")
    )
    with torch.no_grad():
        model.tuners["default"].offset.normal_()
    return model.double().eval()


@torch.no_grad()
def test_at_real_tokens_the_head_says_the_same_as_with_offsets_at_padding_too(glip):
    """GLIP's released code adds them at all positions."""
    samples, images = make_samples(TEXTS), make_images(3)
    captions = [glip.class_prompt(sample.text)[0] for sample in samples]
    visual, text = glip.encode(images, ForwardState(images, captions, samples=samples))
    with glip.tuners_off():
        plain = glip.encode_text(captions)
    everywhere = dict(plain)
    length = plain["masks"].shape[1]
    for name in ("hidden", "embedded"):
        everywhere[name] = plain[name] + glip.tuners["default"].offset[:length]
    real = plain["masks"].bool()
    assert not real.all()
    found, expected = glip.bbox_head(visual, text), glip.bbox_head(visual, everywhere)
    for a, b in zip(found[0], expected[0], strict=True):
        for i in range(len(samples)):
            torch.testing.assert_close(a[i, :, real[i]], b[i, :, real[i]], rtol=1e-9, atol=1e-9)
    for kind in (1, 2):
        for a, b in zip(found[kind], expected[kind], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_a_caption_gets_the_same_features_alone_and_in_a_batch(glip):
    captions = [glip.class_prompt(names)[0] for names in TEXTS]
    together = glip.encode_text(captions)
    for i, caption in enumerate(captions):
        alone = glip.encode_text([caption])
        length = alone["masks"].shape[1]
        for name in ("hidden", "embedded"):
            assert torch.equal(together[name][i, :length], alone[name][0])
            assert not together[name][i, length:].any()
