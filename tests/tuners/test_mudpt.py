"""MuDPT's prompts and injections are those of its formulas, in every setting."""

import copy
import itertools
import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmsdpt.hosts.seams import ForwardState
from mmsdpt.registry import MODELS
from mmsdpt.tuners.files import TunerFileError, load_tuner, read_tuner_header, save_tuner
from mmsdpt.tuners.layers.injection import InjectionTransformer
from tests.hosts.small_clip import make_images
from tests.oracles.clip import plain_linear, plain_prompted_logits, plain_transformer
from tests.tuners.contract_runs import rewritten
from tests.tuners.prompted_clip import IMAGE_BLOCKS, TEXT_BLOCKS, assert_same_training, build_clip

TYPE = "mmsdpt.MuDPT"
DIRECTIONS = ("text_to_image", "image_to_text", "both")
VARIANTS = ("code", "figure")


def settings() -> list[dict]:
    """Every combination of settings that is allowed, with a depth below the towers'."""
    found = [dict(injection="none", variant=variant) for variant in VARIANTS]
    for direction, variant in itertools.product(DIRECTIONS, VARIANTS):
        for share in (True, False):
            found.append(
                dict(injection="linear", direction=direction, share=share, variant=variant)
            )
        for layers in (1, 2):
            found.append(
                dict(
                    injection="transformer",
                    direction=direction,
                    injection_layers=layers,
                    variant=variant,
                )
            )
    one_way = dict(direction="text_to_image", learn_image_prompts=False)
    found += [
        dict(injection="linear", **one_way),
        dict(injection="linear", share=False, **one_way),
        dict(injection="transformer", **one_way),
    ]
    return [dict(options, depth=3) for options in found]


EDGES = [
    dict(depth=1),
    dict(depth=1, injection="transformer"),
    dict(depth=1, direction="text_to_image", share=False, learn_image_prompts=False),
    dict(depth=1, variant="figure", injection="transformer"),
    dict(depth=TEXT_BLOCKS),
    dict(depth=TEXT_BLOCKS - 1, variant="figure"),
    dict(num_tokens=6),
    dict(num_tokens=2, keep_words=True),
    dict(variant="figure", injection="transformer", outer_norms=True, depth=2),
    dict(injection=dict(type="mmsdpt.InjectionTransformer", num_layers=2), depth=2),
    dict(injection=dict(type="mmsdpt.InjectionLinear"), share=False, depth=3),
    dict(num_tokens=1, injection="transformer"),
    dict(injection="none", num_text_tokens=3, num_image_tokens=1),
    dict(injection="none", num_text_tokens=0, num_image_tokens=2, depth=IMAGE_BLOCKS),
    dict(injection="none", num_image_tokens=0),
]


def name_of(options: dict) -> str:
    return " ".join(f"{key}={value}" for key, value in options.items())


def plain_prompts(tuner: nn.Module) -> tuple:
    """The formulas of the module's docstring, depth by depth."""
    own = {
        name: getattr(tuner, name) for name in ("ctx", "text_deep", "image_shallow", "image_deep")
    }
    maps = dict(tuner.named_children())
    post_norm = tuner.variant == "figure"

    def inject(linear: str, transformer: str, x, depth: int):
        """What flows from the prompts (n, d) of a depth; nothing without a map."""
        if transformer in maps:
            return plain_transformer(maps[transformer], x, post_norm)
        if linear in maps:
            module = maps[linear]
            return plain_linear(module if isinstance(module, nn.Linear) else module[depth], x)
        return None

    def add(a, b):
        return b if a is None else a if b is None else a + b

    shallow, text_deep, image_deep = own["image_shallow"], [], []
    if not post_norm and own["ctx"] is not None:
        shallow = add(shallow, inject("t2i_shallow", "t2i", own["ctx"], 0))
    for i in range(tuner.num_deep):
        t = None if own["text_deep"] is None else own["text_deep"][i]
        v = None if own["image_deep"] is None else own["image_deep"][i]
        text_deep.append(t if v is None or t is None else add(t, inject("i2t_deep", "i2t", v, i)))
        image_deep.append(v if t is None else add(v, inject("t2i_deep", "t2i", t, i)))

    def stack(prompts):
        return torch.stack(prompts) if prompts and prompts[0] is not None else None

    return own["ctx"], stack(text_deep), shallow, stack(image_deep)


@pytest.mark.parametrize("options", [*settings(), *EDGES], ids=name_of)
def test_logits_and_gradients_equal_the_plain_form(options):
    model = build_clip(type=TYPE, **options)
    tuner, images = model.tuners["default"], make_images(2)
    keep_words = options.get("keep_words", False)
    wanted = plain_prompted_logits(model, images, *plain_prompts(tuner), keep_words=keep_words)
    assert_same_training(model, model(images), wanted)
    count = sum(parameter.numel() for parameter in tuner.parameters())
    assert tuner.num_trainable() == count
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == count
    json.dumps(tuner.config())


def test_a_transformers_heads_are_64_wide_and_one_where_the_width_is_less():
    for width, heads in ((512, 8), (768, 12), (64, 1), (48, 1), (160, 2)):
        (block,) = InjectionTransformer(width, 8).blocks
        assert block.attention.num_heads == heads
        assert {m.eps for m in InjectionTransformer(width, 8).modules() if hasattr(m, "eps")} == {
            1e-5
        }
    with pytest.raises(ValueError, match="width 200 has 3 heads"):
        InjectionTransformer(200, 8)


@pytest.mark.parametrize("post_norm", [False, True])
def test_prompts_of_one_depth_never_see_those_of_another(post_norm):
    module = InjectionTransformer(64, 8, num_layers=2, post_norm=post_norm).double()
    x = torch.randn(3, 2, 64, dtype=torch.float64)
    batched = module(x)
    for depth in range(3):
        assert (module(x[depth]) - batched[depth]).abs().max() < 1e-12


def test_names_of_what_is_learned():
    prompts = {"ctx", "text_deep", "image_shallow", "image_deep"}

    def names(**options):
        tuner = build_clip(type=TYPE, **options).tuners["default"]
        return {name.split(".")[0] for name, _ in tuner.named_parameters()}

    assert names(injection="none") == prompts
    assert names() == prompts | {"t2i_shallow", "t2i_deep", "i2t_deep"}
    assert names(injection="transformer") == prompts | {"t2i", "i2t"}
    assert names(variant="figure") == prompts | {"t2i_deep", "i2t_deep"}
    assert names(direction="image_to_text") == prompts | {"i2t_deep"}
    one_way = dict(injection="transformer", direction="text_to_image", learn_image_prompts=False)
    assert names(**one_way) == {"ctx", "text_deep", "t2i"}
    tuner = build_clip(type=TYPE).tuners["default"]
    assert tuner.depth == TEXT_BLOCKS and tuner.text_deep.shape == (TEXT_BLOCKS - 1, 2, 64)


@pytest.mark.parametrize("injection", ["linear", "transformer"])
def test_the_context_starts_from_words_and_the_rest_from_noise(injection):
    options = dict(type=TYPE, num_tokens=6, injection=injection)
    model = build_clip()
    model._attach_tuners(options, None, None)
    model.double()
    tuner = model.tuners["default"]
    drawn, tensor = copy.deepcopy(tuner.state_dict()), tuner.ctx
    vectors = model.token_embedding.weight
    model(make_images(1))
    assert tuner.ctx is tensor
    ids = model.tokenizer.encode("a photo of a")
    assert len(ids) == 4 and torch.equal(tuner.ctx[:4], vectors[ids])
    assert torch.equal(tuner.ctx[4:], drawn["ctx"][4:])
    for token in (0, model.tokenizer.end):  # padding and end of text
        assert (tuner.ctx[4:] - vectors[token]).abs().amax(-1).min() > 1e-3
    for name in ("text_deep", "image_shallow", "image_deep"):
        assert torch.equal(getattr(tuner, name), drawn[name])
        assert 0.015 < drawn[name].std() < 0.025


# ------------------------------------------------------------------ words


def texts_of(model) -> list[list]:
    """Of each class the tokens in front of the end: a token's id, or "ctx"."""
    tuner, vectors = model.tuners["default"], model.token_embedding.weight
    state = ForwardState(class_names=model.class_names)
    found = tuner._make_texts(tuner._context.seam, state)
    rows = []
    for text, end in zip(found.whole(), found.ends.tolist(), strict=True):
        kinds = []
        for token in text[: len(found.prefix) + end]:
            distances = (vectors - token).abs().amax(-1)
            kinds.append(int(distances.argmin()) if distances.min() < 1e-12 else "ctx")
        rows.append(kinds)
    return rows


@pytest.mark.parametrize("injection", ["none", "linear", "transformer"])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 6])
def test_the_name_follows_the_context_at_every_length(n, injection):
    model = build_clip(type=TYPE, num_tokens=n, injection=injection)
    encode, start = model.tokenizer.encode, model.tokenizer.start
    wanted = [[start, *["ctx"] * n, *encode(f"{name}.")] for name in model.class_names]
    assert texts_of(model) == wanted


@pytest.mark.parametrize("said", [True, False])
def test_a_file_keeps_the_words_it_was_trained_with(said, tmp_path):
    """A file of version 0.1 says them; one that does not say is older still."""
    old, images = build_clip(type=TYPE, keep_words=True), make_images(1)
    path = save_tuner(old, tmp_path / "old.safetensors")
    if not said:
        config = old.tuners["default"].config()
        del config["fixed_words"]
        path = rewritten(path, config=config)
    model = build_clip(type=TYPE)
    encode = model.tokenizer.encode
    load_tuner(model, path)
    assert texts_of(model)[0][3:] == encode(f"of a {model.class_names[0]}.")
    assert torch.equal(model(images), old(images))
    again = save_tuner(model, tmp_path / "again.safetensors")
    assert read_tuner_header(again)["config"]["fixed_words"] == "a photo of a"

    new = build_clip(type=TYPE)
    load_tuner(old, save_tuner(new, tmp_path / "new.safetensors"))
    assert torch.equal(old(images), new(images))


def test_a_file_of_the_figure_with_outer_norms_says_what_it_needs(tmp_path):
    figure = dict(type=TYPE, variant="figure", injection="transformer", depth=2)
    old = build_clip(**figure, outer_norms=True)
    path = save_tuner(old, tmp_path / "old.safetensors")
    with pytest.raises(TunerFileError, match="outer_norms: True in the file, False in the model"):
        load_tuner(build_clip(**figure), path)


# ------------------------------------------------------------------ a user's own injection


class Sparse(nn.Module):
    """An injection of a user's: one feature, scaled."""

    def __init__(self, d_in: int, d_out: int, first: int = 0) -> None:
        super().__init__()
        self.first, self.d_out = first, d_out
        self.scale = nn.Parameter(torch.ones(d_out))

    def forward(self, x):
        return self.scale * x[..., self.first : self.first + 1].expand(*x.shape[:-1], self.d_out)


def test_an_injection_of_a_users_own_is_registered_built_trained_and_saved(tmp_path):
    MODELS.register_module(name="Sparse", module=Sparse)
    try:
        options = dict(type=TYPE, depth=3, injection=dict(type="mmsdpt.Sparse", first=1))
        model = build_clip(**options)
        tuner, images = model.tuners["default"], make_images(2)
        assert set(dict(tuner.named_children())) == {"t2i", "i2t"}
        assert tuner.num_trainable() == sum(p.numel() for p in tuner.parameters())
        optimizer = torch.optim.SGD(tuner.parameters(), lr=0.01)
        losses = []
        for _ in range(5):
            loss = F.cross_entropy(model(images), torch.arange(2))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < losses[0]
        assert (tuner.t2i.scale != 1).any() and (tuner.i2t.scale != 1).any()
        path = save_tuner(model, tmp_path / "own.safetensors")
        again = build_clip(**options)
        load_tuner(again, path)
        assert torch.equal(again(images), model(images))
        other = build_clip(type=TYPE, depth=3, injection=dict(type="mmsdpt.Sparse", first=2))
        with pytest.raises(TunerFileError, match=r"injection\.first: 1 in the file"):
            load_tuner(other, path)
    finally:
        MODELS.module_dict.pop("Sparse")


def test_the_short_names_are_the_registered_modules():
    images = make_images(1)
    for short, name in (("linear", "InjectionLinear"), ("transformer", "InjectionTransformer")):
        named = build_clip(type=TYPE, depth=2, injection=dict(type=f"mmsdpt.{name}"))
        assert torch.equal(named(images), build_clip(type=TYPE, depth=2, injection=short)(images))


def test_older_names_of_directions_mean_the_same():
    for old, new in (("t2v", "text_to_image"), ("v2t", "image_to_text")):
        a, b = (build_clip(type=TYPE, direction=d).tuners["default"] for d in (old, new))
        assert a.config() == b.config() and a.config()["direction"] == old


# ------------------------------------------------------------------ one pass


def test_injected_prompts_are_computed_once_in_a_pass(monkeypatch):
    model = build_clip(type=TYPE)
    model.token_chunk = 8
    tuner, calls = model.tuners["default"], []
    prompts = tuner.prompts
    monkeypatch.setattr(tuner, "prompts", lambda: calls.append(1) or prompts())
    model(make_images(3)).sum().backward()
    assert len(calls) == 1


@pytest.mark.parametrize("options", [dict(), dict(variant="figure"), dict(share=False)], ids=str)
def test_settings_that_change_the_meaning_are_in_the_config(options):
    """Else a file of one would load into the other."""
    base = build_clip(type=TYPE, depth=2).tuners["default"].config()
    other = build_clip(type=TYPE, depth=2, **options).tuners["default"].config()
    assert (base == other) == (not options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(depth=0), "depth must be a positive integer"),
        (dict(depth=TEXT_BLOCKS + 1), f"depth must be from 1 to {TEXT_BLOCKS}.* 4 and 5 blocks"),
        (dict(depth=TEXT_BLOCKS, variant="figure"), f"depth must be from 1 to {TEXT_BLOCKS - 1}"),
        (dict(num_tokens=-1), "num_text_tokens must be an integer of at least 0"),
        (dict(num_tokens=1.5), "num_text_tokens must be an integer"),
        (dict(num_tokens=80), "leaves no room for a class name"),
        (dict(num_image_tokens=3), "both need the same number"),
        (dict(num_image_tokens=0), "both need the same number"),
        (dict(injection="cross"), "injection must be one of none, linear, transformer"),
        (dict(direction="left"), "direction must be one of text_to_image, image_to_text, both"),
        (dict(variant="paper"), "variant must be one of code, figure"),
        (dict(injection="transformer", share=False), "share=False.* is for injection='linear'"),
        (dict(injection_layers=2), "injection_layers=2 is for injection='transformer'"),
        (dict(injection="transformer", injection_layers=0), "must be a positive integer"),
        (dict(direction="image_to_text", depth=1), "has no effect at depth=1"),
        (dict(learn_image_prompts=False), "needs direction='text_to_image'"),
        (
            dict(learn_image_prompts=False, direction="text_to_image", variant="figure"),
            "needs direction='text_to_image' and variant='code'",
        ),
        (dict(injection=dict(num_layers=2)), "must name a registered module"),
        (dict(injection=dict(type="mmsdpt.Nowhere")), "Nowhere'} must name a registered module"),
        (dict(variant="figure", outer_norms=True), "is for injection='transformer' with"),
        (
            dict(injection=dict(type="mmsdpt.InjectionTransformer"), injection_layers=2),
            "injection_layers=2 is for",
        ),
        (dict(injection="none", learn_image_prompts=False), "leaves the image without prompts"),
    ],
    ids=str,
)
def test_settings_that_make_no_sense_are_refused_with_a_sentence(options, words):
    with pytest.raises(ValueError, match=words):
        MODELS.build(dict(type=TYPE, **options), default_args=dict(seams=build_clip().seams()))
