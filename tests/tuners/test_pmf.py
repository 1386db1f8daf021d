"""PMF: messages between the last layers of both encoders."""

import pytest
import torch
from torch import nn

from mmsdpt.hosts.grounding.seams import PairSeam
from mmsdpt.hosts.seams import ForwardState, PromptRows, SeamMap
from mmsdpt.registry import MODELS
from tests.hosts.small_glip import TEXTS, build_mini_glip, make_images, make_samples
from tests.tuners.seams_of_glip_l import seams

IMAGE, TEXT = 12, 8
SIZE = (64, 96)


class Block:
    """A transformer layer that takes rows and remembers them."""

    def __init__(self, width):
        self.layer = nn.TransformerEncoderLayer(width, 2, 2 * width, batch_first=True).double()
        self.layer.eval()
        self.passes = []

    def __call__(self, x, rows):
        self.passes.append(rows)
        values = [row.values.expand(len(x), -1, -1) for row in rows.values()]
        sizes = [x.shape[1], *(value.shape[1] for value in values)]
        out, *parts = self.layer(torch.cat([x, *values], 1)).split(sizes, 1)
        kept = {
            key: PromptRows(part, keep=True)
            for (key, row), part in zip(rows.items(), parts, strict=True)
            if row.keep
        }
        return out, kept


def build(pairs=3, **tuner):
    widths = dict(image=IMAGE, text=TEXT, image_heads=2, text_heads=2)
    points = [PairSeam(i, widths, kind="encoder_pairs") for i in range(pairs)]
    tuner = MODELS.build(
        dict(type="mmsdpt.PMF", **tuner),
        default_args=dict(seams=SeamMap("fake", dict(encoder_pairs=points))),
    )
    for parameter in tuner.double().parameters():
        nn.init.normal_(parameter, std=0.5)
    return tuner, points


def plain(side, other, layer, other_layer, x, y):
    """What modality a makes of x, with the message of b, whose features are y."""
    prompts, other_prompts = side["prompts"], other["prompts"]
    batch = len(x)

    def run(layer, *parts):
        return layer(torch.cat([p.expand(batch, -1, -1) for p in parts], dim=1))

    asked = run(other_layer, y, other_prompts["query_context"], other_prompts["query"])
    message = asked[:, -len(other_prompts["query"]) :]
    first, _, second = other["to_other"]
    message = (message @ first.weight.T + first.bias).clamp(min=0) @ second.weight.T + second.bias
    return run(layer, x, prompts["fusion_context"], message)[:, : x.shape[1]]


@pytest.mark.parametrize("batch", [1, 3])
def test_a_layer_is_the_papers_query_pass_and_fusion_pass(batch):
    tuner, points = build(num_query=2, num_query_context=3, num_fusion_context=4)
    image, text = torch.randn(batch, 7, IMAGE).double(), torch.randn(batch, 5, TEXT).double()
    for seam in points[1:]:
        on_image, on_text = Block(IMAGE), Block(TEXT)
        found = seam.run(on_image, on_text, image, text, None, ForwardState())
        layer = tuner.layers[str(seam.index)]
        sides = layer["image"], layer["text"]
        expected = (
            plain(*sides, on_image.layer, on_text.layer, image, text),
            plain(*reversed(sides), on_text.layer, on_image.layer, text, image),
        )
        for a, b in zip(found, expected, strict=True):
            assert torch.allclose(a, b, rtol=0, atol=1e-9)
        for block in (on_image, on_text):
            (query,), (fusion,) = (rows.values() for rows in block.passes)
            assert query.keep and not fusion.keep


def test_only_the_last_layers_are_touched_and_each_has_its_own_prompts():
    tuner, points = build(pairs=4, num_layers=2)
    assert [bool(seam.active()) for seam in points] == [False, False, True, True]
    first, second = tuner.layers.values()
    assert not torch.equal(first["image"]["prompts"]["query"], second["image"]["prompts"]["query"])


def test_two_of_them_are_refused():
    taken = seams()
    MODELS.build(dict(type="mmsdpt.PMF"), default_args=dict(seams=taken))
    with pytest.raises(ValueError, match="both replace"):
        MODELS.build(dict(type="mmsdpt.PMF"), default_args=dict(seams=taken))


@pytest.mark.parametrize("order", [("DPT", "PMF"), ("PMF", "DPT")])
def test_a_tuner_whose_image_prompts_need_the_finished_text_is_refused(order):
    taken = seams()
    MODELS.build(dict(type=f"mmsdpt.{order[0]}"), default_args=dict(seams=taken))
    with pytest.raises(ValueError, match="DPT needs the finished text .* cannot be stacked"):
        MODELS.build(dict(type=f"mmsdpt.{order[1]}"), default_args=dict(seams=taken))


@pytest.mark.parametrize(
    "settings", [dict(num_layers=3), dict(num_layers="1"), dict(hidden_width="8")]
)
def test_sizes_that_do_not_exist_are_refused(settings):
    with pytest.raises(ValueError, match="must be"):
        MODELS.build(dict(type="mmsdpt.PMF", **settings), default_args=dict(seams=seams()))


def test_on_glip_each_encoder_hears_the_other_and_an_image_stays_alone_in_its_batch():
    model = build_mini_glip(tuner=dict(type="mmsdpt.PMF")).double().eval()
    for parameter in model.tuners.parameters():
        nn.init.normal_(parameter, std=0.3)
    images, samples = make_images(3, SIZE), make_samples(TEXTS, SIZE)
    captions = [model.class_prompt(sample.text)[0] for sample in samples]

    def encode(images, captions):
        with torch.no_grad():
            return model.encode(images, ForwardState(images=images, captions=captions))

    levels, text = encode(images, captions)
    for i, caption in enumerate(captions):
        alone, words = encode(images[i : i + 1], [caption])
        length = words["hidden"].shape[1]
        assert torch.allclose(text["hidden"][i, :length], words["hidden"][0], atol=1e-9)
        for level, one in zip(levels, alone, strict=True):
            assert torch.allclose(level[i], one[0], atol=1e-9)
    other_levels, other_text = encode(images.roll(1, 0), captions)
    assert (other_text["hidden"] - text["hidden"]).abs().max() > 1e-6
    other_levels, _ = encode(images, captions[1:] + captions[:1])
    assert (other_levels[-1] - levels[-1]).abs().max() > 1e-6
