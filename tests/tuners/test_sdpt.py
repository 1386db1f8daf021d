"""SDPT equals its plain form, with every option, and its tokens learn from both outputs."""

import copy

import pytest
import torch
from torch import nn

from mmsdpt.hosts.grounding.seams import FusionSeam
from mmsdpt.hosts.seams import SeamMap
from mmsdpt.registry import MODELS
from mmsdpt.tuners import SDPT
from mmsdpt.tuners.files import save_tuner
from tests.hosts.disconnect import disconnect_all
from tests.oracles.compare import assert_close
from tests.oracles.glip import plain_fusion, plain_inverse
from tests.tuners.fusion_host import HEADS, IMAGE, JOINT, TEXT, FusionHost, inputs

K = 3
OPTIONS = {
    "the method": dict(),
    "image": dict(sides="image"),
    "text": dict(sides="text"),
    "unshared": dict(share=False),
    "first layer": dict(layers=[0]),
    "last layers": dict(layers=[-1, 1]),
    "learnable": dict(projection="learnable"),
    "learnable image": dict(projection="learnable", sides="image"),
    "learnable unshared": dict(projection="learnable", share=False),
    "normal": dict(init="normal", init_scale=0.3),
    "zeros": dict(init="zeros"),
    "masked": dict(mask_text_tokens=True),
}


def make_host(**options) -> FusionHost:
    return FusionHost(tuner=dict(type="mmsdpt.SDPT", num_tokens=K, **options)).double().eval()


def plain_host(host: FusionHost, image, text, mask, detached=()):
    """The host layer by layer, without seams.

    Args:
        detached: Sides whose gradient must not reach the tokens.
    """
    sdpt = host.tuners["default"]
    for index, block in enumerate(host.layers):
        tokens = {"image": None, "text": None}
        if index in sdpt.layers:
            i = sdpt.layers.index(index)
            sides = ("image", "text") if sdpt.sides == "dual" else (sdpt.sides,)
            for side in sides:
                z = (sdpt.tokens if sdpt.share else sdpt.tokens[side]).weight[i]
                z = z.detach() if side in detached else z
                linear = block.attn.v_proj if side == "image" else block.attn.l_proj
                if sdpt.projection == "learnable":
                    own = sdpt.projections[side][i]
                    tokens[side] = z @ own.weight.T + own.bias
                else:
                    tokens[side] = plain_inverse(z, linear)
        image, text = plain_fusion(
            block, image, text, mask, tokens["image"], tokens["text"], hide=sdpt.mask_text_tokens
        )
    return image, text


def weighted_loss(image, text, mask, image_weight=1.0, text_weight=1.0):
    generator = torch.Generator().manual_seed(5)
    a = torch.randn(image.shape, generator=generator, dtype=image.dtype)
    b = torch.randn(text.shape, generator=generator, dtype=text.dtype)
    return image_weight * (image * a).sum() + text_weight * (text * b * mask.unsqueeze(-1)).sum()


def gradients(host, outputs, mask, **weights):
    parameters = [p for p in host.parameters() if p.requires_grad]
    loss = weighted_loss(*outputs, mask, **weights)
    return torch.autograd.grad(loss, parameters, allow_unused=True)


@pytest.mark.parametrize("name", OPTIONS)
def test_sdpt_equals_its_plain_form_in_outputs_and_gradients(name):
    host = make_host(**OPTIONS[name])
    image, text, mask = inputs()
    found, expected = host(image, text, mask), plain_host(host, image, text, mask)
    real = mask.bool()
    assert_close([found[0], found[1][real]], [expected[0], expected[1][real]])
    assert_close(gradients(host, found, mask), gradients(host, expected, mask))


@pytest.mark.parametrize("name", [n for n in OPTIONS if n != "zeros"])
def test_tokens_have_an_effect(name):
    host = make_host(**OPTIONS[name])
    image, text, mask = inputs()
    with_tokens = host(image, text, mask)
    with host.tuners_off():
        without = host(image, text, mask)
    assert (with_tokens[0] - without[0]).abs().max() > 1e-3
    assert (with_tokens[1] - without[1]).abs().max() > 1e-3


def test_the_constants_of_inference_equal_the_training_form():
    host = make_host()
    image, text, mask = inputs()
    trained = host(image, text, mask)
    with torch.no_grad():
        host(image, text, mask)
        again = host(image, text, mask)  # from the cache
    assert_close(again, [x.detach() for x in trained])


def test_the_constants_of_inference_follow_the_tokens_and_the_base_weights():
    host = make_host()
    sdpt = host.tuners["default"]
    image, text, mask = inputs()
    with torch.no_grad():
        host(image, text, mask)
        for parameter in (sdpt.tokens.weight, host.layers[1].attn.l_proj.weight):
            parameter.mul_(1.5)
            found, expected = host(image, text, mask), plain_host(host, image, text, mask)
            assert_close(found[:1], expected[:1])


def test_hidden_text_tokens_equal_tokens_on_the_image_side_only():
    masked, image_only = make_host(mask_text_tokens=True), make_host(sides="image")
    image_only.load_state_dict(masked.state_dict())
    outputs = [host(*inputs()) for host in (masked, image_only)]
    for a, b in zip(*outputs, strict=True):
        assert torch.equal(a, b)


def test_only_the_chosen_layers_have_tokens():
    host = make_host(layers=[-1, 0])
    sdpt = host.tuners["default"]
    assert sdpt.layers == (0, 2)
    assert sdpt.tokens.weight.shape == (2, K, JOINT)
    for index, layer in enumerate(host.layers):
        assert (layer.attn.seam.tokens().image is not None) == (index in (0, 2))


def test_layers_of_different_widths_have_projections_of_their_own_width():
    """GLIP's first fusion layer is as wide as the pyramid, the others are as wide as the head."""
    linears = [
        dict(image=torch.nn.Linear(width, JOINT), text=torch.nn.Linear(TEXT, JOINT))
        for width in (4, IMAGE)
    ]
    seams = [
        FusionSeam(i, dict(image=4 if i == 0 else IMAGE, text=TEXT, joint=JOINT, heads=HEADS), pair)
        for i, pair in enumerate(linears)
    ]
    for projection in ("inverse", "learnable"):
        sdpt = SDPT(seams=SeamMap("Host", dict(fusion=seams)), num_tokens=K, projection=projection)
        assert seams[0].tokens().image.shape == (K, 4)
        assert seams[1].tokens().image.shape == (K, IMAGE)
        assert sdpt.num_trainable() == sum(p.numel() for p in sdpt.parameters())
        disconnect_all(dict(fusion=seams))


def test_the_tokens_of_every_layer_learn_from_both_outputs_of_that_layer():
    host = make_host()
    sdpt = host.tuners["default"]
    image, text, mask = inputs()
    for i, layer in enumerate(host.layers):
        for chosen in (0, 1):
            outputs = layer([image.transpose(1, 2).unsqueeze(-1)], text, mask)
            output = outputs[0][0] if chosen == 0 else outputs[1]
            (gradient,) = torch.autograd.grad(output.square().sum(), sdpt.tokens.weight)
            assert gradient[i].abs().amax(-1).min() > 0  # every token
            assert not gradient[[j for j in range(3) if j != i]].any()


@pytest.mark.parametrize("only", ["image", "text"])
def test_a_loss_on_one_output_of_the_host_reaches_the_tokens_of_every_layer(only):
    host = make_host()
    image, text, mask = inputs()
    weights = dict(image_weight=float(only == "image"), text_weight=float(only == "text"))
    (gradient,) = gradients(host, host(image, text, mask), mask, **weights)
    assert gradient.abs().amax((1, 2)).min() > 0


def test_tokens_on_one_side_reach_the_other_output_through_later_layers_only():
    """Tokens among the image's keys change the text, and the text changes the image a layer
    later.
    """
    host = make_host(sides="image")
    image, text, mask = inputs()
    (gradient,) = gradients(host, host(image, text, mask), mask, text_weight=0.0)
    reached = gradient.abs().amax((1, 2))
    assert reached[0] > 0 and reached[1] > 0 and reached[2] == 0


@pytest.mark.parametrize(("phase", "cut"), [("image", "text"), ("text", "image")])
def test_a_phase_cuts_the_gradient_of_the_other_side_and_nothing_else(phase, cut):
    host = make_host()
    image, text, mask = inputs()
    both = gradients(host, host(image, text, mask), mask)[0]
    host.tuners["default"].set_phase(phase)
    found = host(image, text, mask)
    expected = plain_host(host, image, text, mask, detached=(cut,))
    assert_close(found[:1], expected[:1])
    after = gradients(host, found, mask)
    assert_close(after[:1], gradients(host, expected, mask)[:1])
    assert (after[0] - both).abs().max() > 1e-3
    host.tuners["default"].set_phase()
    assert torch.equal(gradients(host, host(image, text, mask), mask)[0], both)


def test_tokens_are_drawn_as_asked():
    def drawn(**options):
        host = FusionHost(tuner=dict(type="mmsdpt.SDPT", num_tokens=200, **options))
        return host.tuners["default"].tokens.weight

    uniform = drawn()
    assert uniform.abs().max() <= 1 and abs(uniform.std() - 3**-0.5) < 0.02
    assert drawn(init_scale=0.1).abs().max() <= 0.1
    normal = drawn(init="normal", init_scale=0.5)
    assert abs(normal.std() - 0.5) < 0.02 and normal.abs().max() > 1
    assert not drawn(init="zeros").any()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(sides="both"), "sides must be dual, image or text"),
        (dict(projection=dict(type="mmsdpt.Nowhere")), "must name a registered module"),
        (dict(tokens=dict(type="mmsdpt.Nowhere")), "must name a registered module"),
        (dict(projection="linear"), "projection must be inverse, learnable or"),
        (dict(share=False, sides="image"), "share=False"),
        (dict(mask_text_tokens=True, sides="text"), "without any gradient"),
        (dict(mask_text_tokens=True, share=False), "without any gradient"),
        (dict(layers=[]), "distinct indices into 3 fusion layers"),
        (dict(layers=[3]), "distinct indices into 3 fusion layers"),
        (dict(layers=[-4]), "distinct indices into 3 fusion layers"),
        (dict(layers=[2, -1]), "distinct indices into 3 fusion layers"),
        (dict(num_tokens=0), "positive integer"),
        (dict(num_tokens=2.5), "positive integer"),
        (dict(init="ones"), "init must be one of"),
        (dict(init_scale=0.0), "init_scale must be positive"),
    ],
)
def test_settings_that_make_no_sense_are_refused_with_a_sentence(options, words):
    with pytest.raises(ValueError, match=words):
        FusionHost(tuner=dict(type="mmsdpt.SDPT", **options))


def test_phases_that_make_no_sense_are_refused_with_a_sentence():
    with pytest.raises(ValueError, match="sides must be image and text"):
        make_host().tuners["default"].set_phase("both")
    with pytest.raises(ValueError, match="nothing would train in the phase text"):
        make_host(sides="image").tuners["default"].set_phase("text")


def test_a_joint_space_narrower_than_a_modality_is_refused_unless_the_projection_is_learned():
    with pytest.raises(ValueError, match="joint width must be at least the modality's"):
        FusionHost(widths=(IMAGE, 18, JOINT, HEADS), tuner=dict(type="mmsdpt.SDPT"))
    FusionHost(
        widths=(IMAGE, 18, JOINT, HEADS), tuner=dict(type="mmsdpt.SDPT", projection="learnable")
    )


def test_a_copied_model_has_tokens_of_its_own():
    host = make_host()
    twin = copy.deepcopy(host)
    before = host(*inputs())
    with torch.no_grad():
        twin.tuners["default"].tokens.weight.add_(1.0)
    for a, b in zip(host(*inputs()), before, strict=True):
        assert torch.equal(a, b)
    found, expected = twin(*inputs()), plain_host(twin, *inputs())
    assert_close(found[:1], expected[:1])


class RankOneTokens(nn.Module):
    """Prototype tokens of a user's: a scale for each token of one direction for each layer."""

    def __init__(self, num_layers: int, num_tokens: int, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(num_layers, num_tokens, 1))
        self.direction = nn.Parameter(torch.randn(num_layers, 1, width))

    def forward(self, layer: int) -> torch.Tensor:
        return self.scale[layer] * self.direction[layer]


class First(nn.Module):
    """A projection of a user's: the first numbers, through the modality's own bias."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(out_features))

    def forward(self, tokens: torch.Tensor, projection: nn.Linear) -> torch.Tensor:
        return self.gain * (tokens - projection.bias)[:, : len(self.gain)]


def test_tokens_and_projections_of_a_users_own_are_registered_built_and_trained():
    modules = dict(RankOneTokens=RankOneTokens, First=First)
    for name, module in modules.items():
        MODELS.register_module(name=name, module=module)
    try:
        own = dict(tokens=dict(type="mmsdpt.RankOneTokens"), projection=dict(type="mmsdpt.First"))
        tower = make_host(**own)
        sdpt = tower.tuners["default"]
        assert type(sdpt.tokens) is RankOneTokens
        assert {name: sdpt.config()[name] for name in own} == own
        assert sdpt.num_trainable() == sum(p.numel() for p in sdpt.parameters())
        image, text, mask = inputs()
        optimizer = torch.optim.SGD(sdpt.parameters(), lr=1e-4)
        losses = []
        for _ in range(4):
            loss = weighted_loss(*tower(image, text, mask), mask)
            optimizer.zero_grad()
            loss.backward()
            assert all(p.grad is not None and p.grad.any() for p in sdpt.parameters())
            optimizer.step()
            losses.append(loss.item())
        assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0]
    finally:
        for name in modules:
            MODELS.module_dict.pop(name)


@pytest.mark.parametrize("layers", [None, [0], [-1, 1]])
@pytest.mark.parametrize("projection", ["inverse", "learnable"])
@pytest.mark.parametrize(
    "sides",
    [
        dict(sides="dual"),
        dict(sides="image"),
        dict(sides="text"),
        dict(share=False),
        dict(mask_text_tokens=True),
        dict(mask_text_tokens=True, sides="image"),
    ],
    ids=str,
)
def test_the_closed_formula_is_the_real_count(layers, projection, sides):
    host = make_host(layers=layers, projection=projection, **sides)
    real = sum(p.numel() for p in host.parameters() if p.requires_grad)
    assert real == host.tuners["default"].num_trainable() > 0


def test_a_tuner_file_of_glip_l_with_ten_tokens_has_less_than_a_megabyte(tmp_path):
    host = FusionHost(8, (IMAGE, TEXT, 2048, HEADS), tuner=dict(type="mmsdpt.SDPT", num_tokens=10))
    assert save_tuner(host, tmp_path / "tuner.safetensors").stat().st_size < 1_000_000
