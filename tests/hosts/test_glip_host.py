"""GLIP as a host: MMDetection's names, losses, gradients and predictions; what is frozen; what is
refused.
"""

from __future__ import annotations

import copy
import functools
from pathlib import Path

import pytest
import torch
from mmdet.models.detectors import glip as mmdet_glip
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.hub import get_config
from torch import Tensor, nn

from mmsdpt.utils.errors import InputError
from tests.hosts.full_size import on_meta
from tests.hosts.mmdet_bert import skip_without_mmdetections_bert
from tests.hosts.small_glip import (
    TEXTS,
    assert_near,
    assert_same_predictions,
    build_mini_glip,
    build_small_glip,
    losses_of,
    make_every_parameter_matter,
    make_images,
    make_samples,
    mini_images,
    mini_samples,
    predictions_of,
)

SDPT = dict(type="mmsdpt.SDPT", num_tokens=3)


# ---------------------------------------------------------------------- names


def with_text_folder(model: dict, folder: str) -> dict:
    model = copy.deepcopy(model)
    model["bbox_head"]["lang_model_name"] = model["language_model"]["name"] = folder
    return model


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def both_on_meta(size: str, folder: str, repository: Path) -> tuple[nn.Module, nn.Module]:
    theirs = get_config(f"mmdet::glip/glip_atss_swin-{size}_fpn_dyhead_16xb2_ms-2x_funtune_coco.py")
    ours = Config.fromfile(str(repository / f"configs/_base_/models/glip_{size}.py"))
    model = {**ours.model, "tuner": dict(type="mmsdpt.SDPT", num_tokens=10)}
    with on_meta():
        return tuple(MODELS.build(with_text_folder(m, folder)) for m in (theirs.model, model))


def trainable(module: nn.Module) -> dict[str, int]:
    return {name: p.numel() for name, p in module.named_parameters() if p.requires_grad}


def host_shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: s for name, s in shapes(model).items() if not name.startswith("tuners.")}


def test_glip_t_has_mmdetections_names_and_shapes(bert_without_weights, repository):
    theirs, ours = both_on_meta("t", bert_without_weights, repository)
    assert host_shapes(ours) == shapes(theirs)
    assert sum(trainable(ours).values()) == 6 * 10 * 2048


def test_glip_l_has_mmdetections_names_and_sdpt_trains_only_its_tokens(
    bert_without_weights, repository
):
    theirs, ours = both_on_meta("l", bert_without_weights, repository)
    assert host_shapes(ours) == shapes(theirs)
    assert count(ours) - count(ours.tuners) == count(theirs) == 430_401_824
    assert count(ours.backbone) == 195_200_820
    assert count(ours.neck) == 3_639_296
    assert count(ours.language_model) == 108_891_648
    assert count(ours.bbox_head) == 122_670_060
    assert sum(trainable(ours).values()) == 163_840
    assert all(name.startswith("tuners.default.") for name in trainable(ours))
    larger = dict(type="mmsdpt.SDPT", num_tokens=120)
    assert sum(trainable(MODELS.build(larger, default_args=dict(seams=ours.seams()))).values()) == (
        1_966_080
    )


# ---------------------------------------------------------------------- equal to MMDetection


@pytest.fixture(scope="module")
def pair(text_folder) -> tuple[nn.Module, nn.Module]:
    """MMDetection's model and ours with the same weights, in double precision."""
    skip_without_mmdetections_bert()
    plain = build_small_glip(text_folder, ours=False)
    make_every_parameter_matter(plain)
    ours = build_small_glip(text_folder, ours=True)
    found = ours.load_state_dict(plain.state_dict())
    assert not found.missing_keys and not found.unexpected_keys
    return plain.double(), ours.double()


@pytest.fixture
def short_pair(pair, oracle, monkeypatch):
    """The same with captions padded to 32 tokens in MMDetection's model, where they are always
    padded to 256 and three places know that number.
    """
    plain, ours = pair
    monkeypatch.setattr(plain.language_model, "max_tokens", 32)
    monkeypatch.setattr(plain.bbox_head, "feat_channels", 32)
    short_map = functools.partial(mmdet_glip.create_positive_map, max_num_entities=32)
    monkeypatch.setattr(mmdet_glip, "create_positive_map", short_map)
    for model in pair:
        for module in (model, model.bbox_head):
            monkeypatch.setattr(module, "test_cfg", copy.deepcopy(module.test_cfg))
    return pair


def losses_and_gradients(model: nn.Module, images: Tensor, samples) -> dict[str, Tensor]:
    losses = losses_of(model, images, samples)
    named = dict(model.named_parameters())
    gradients = torch.autograd.grad(
        sum(losses.values()), list(named.values()), materialize_grads=True
    )
    return {
        **{k: v.detach() for k, v in losses.items()},
        **dict(zip(named, gradients, strict=True)),
    }


# Attention scores do not change by a softmax's row constant, so this gradient is rounding alone.
ZERO_GRADIENT = "attention.self.key.bias"


def assert_equal_losses_and_gradients(pair, texts, empty=()) -> None:
    plain, ours = pair
    samples = make_samples(texts, empty=empty)
    wanted = losses_and_gradients(plain, make_images(len(texts)), samples)
    # In single precision, a small sum of large terms is known no better than they are.
    floor = 1e-2 * max(value.abs().max().item() for name, value in wanted.items() if "." in name)
    for dtype, relative in ((torch.float64, 1e-9), (torch.float32, 1e-5)):
        single = dtype == torch.float32
        model = copy.deepcopy(ours).float() if single else ours
        found = losses_and_gradients(model, make_images(len(texts), dtype=dtype), samples)
        assert found.keys() == wanted.keys()
        for name, value in wanted.items():
            if name.endswith(ZERO_GRADIENT):
                assert found[name].abs().max() < relative
            else:
                assert_near(found[name], value, relative, name, floor if single else 0)
    moving = [name for name, value in wanted.items() if value.abs().max() > 0]
    assert len(moving) > 0.95 * len(wanted)


@pytest.mark.parametrize(
    ("texts", "empty"), [(TEXTS[:1], ()), ((TEXTS[2], TEXTS[0], TEXTS[1]), (1,))], ids=["1", "3"]
)
def test_losses_and_all_gradients_equal_mmdetections(short_pair, texts, empty):
    """Ragged captions, odd pyramid sizes, an image without boxes; double and single precision."""
    assert_equal_losses_and_gradients(short_pair, texts, empty)


@pytest.mark.slow
def test_losses_and_all_gradients_equal_mmdetections_with_256_tokens(pair, oracle):
    assert_equal_losses_and_gradients(pair, TEXTS[:2])


@pytest.mark.parametrize(
    ("texts", "rescale"),
    [(TEXTS[:1], False), (TEXTS, True), ((TEXTS[0],) * 2, True)],
    ids=["1", "3", "same text"],
)
def test_predictions_equal_mmdetections(short_pair, texts, rescale):
    images, samples = make_images(len(texts)), make_samples(texts)
    wanted, found = (predictions_of(m, images, samples, rescale) for m in short_pair)
    assert all(len(w) > 5 and len(set(w.scores.tolist())) > 5 for w in wanted)
    assert_same_predictions(found, wanted, 1e-9)


@pytest.mark.parametrize(
    "meta",
    [
        dict(text="red circle. striped blue star. raccoon", custom_entities=True),
        dict(
            text=("red circle", "raccoon"),
            custom_entities=True,
            caption_prompt={"raccoon": dict(prefix="a ", name="grey animal", suffix=" at night")},
        ),
        dict(text=("red circle", "raccoon"), custom_entities=False),
        dict(
            text="a raccoon beside a red circle",
            custom_entities=False,
            tokens_positive=[[[2, 9]], [[17, 20], [21, 27]]],
        ),
        dict(text="a raccoon beside a red circle. ", custom_entities=False),
    ],
    ids=["string", "caption_prompt", "list", "tokens_positive", "noun phrases"],
)
def test_every_kind_of_prompt_means_what_it_means_in_mmdetection(short_pair, meta, monkeypatch):
    # nltk searches noun phrases; here the search gives one place more than names.
    phrases = [[[2, 9]], [[19, 29]], [[10, 16]]], ["raccoon", "red circle"]
    monkeypatch.setattr(mmdet_glip, "run_ner", lambda caption: phrases)
    images, samples = make_images(1), make_samples(TEXTS[:1], **meta)
    wanted, found = (predictions_of(m, images, samples) for m in short_pair)
    assert len(wanted[0]) > 5
    assert_same_predictions(found, wanted, 1e-9)


@pytest.mark.parametrize("name", ["traffic_light", "traffic light", "traffic light(road)"])
def test_a_caption_prompt_is_found_however_the_class_is_written(mini, name):
    caption, _ = mini.class_prompt(("traffic_light", "cat"), {name: dict(prefix="a red ")})
    assert caption == "a red traffic light. cat"


def test_images_of_a_batch_may_have_prompts_of_different_kinds(short_pair):
    """MMDetection takes the first image's settings for all."""
    _, ours = short_pair
    caption = "a raccoon beside a red circle."
    one = make_samples([caption], custom_entities=False, tokens_positive=[[[2, 9]]])
    two = make_samples([caption], custom_entities=False, tokens_positive=[[[19, 29]]])
    images = make_images(2)
    found = predictions_of(ours, images, [*one, *two])
    alone = [*predictions_of(ours, images[:1], one), *predictions_of(ours, images[1:], two)]
    assert_same_predictions(found, alone, 1e-9)
    assert {*found[0].label_names} == {"raccoon"} and {*found[1].label_names} == {"red circle"}


def test_no_detection_looks_as_in_mmdetection(short_pair):
    for model in short_pair:
        model.bbox_head.test_cfg.score_thr = 0.999
    samples = make_samples(TEXTS[:2])
    wanted, found = (predictions_of(m, make_images(2), samples) for m in short_pair)
    assert [len(w) for w in wanted] == [0, 0]
    assert_same_predictions(found, wanted, 0)
    assert found[0].bboxes.shape == (0, 4)


CLASSES = ("red circle", "raccoon", "striped blue star", "penguin (bird)", "jelly_fish")


@pytest.mark.parametrize("score_thr", [0.05, 0.5, 0.999], ids=["many", "some", "none"])
def test_chunked_prediction_equals_mmdetections_loop(short_pair, score_thr):
    for model in short_pair:
        model.test_cfg.chunked_size = 2
        model.bbox_head.test_cfg.score_thr = score_thr
    samples = make_samples([CLASSES])
    wanted, found = (predictions_of(m, make_images(1), samples) for m in short_pair)
    assert_same_predictions(found, wanted, 1e-9)
    if score_thr == 0.05:
        assert {*found[0].labels.tolist()} == {*range(5)}
    names = [name.replace(" (bird)", " ").replace("_", " ") for name in CLASSES]
    assert found[0].get("label_names", []) == [names[i] for i in found[0].labels]


def test_chunks_work_in_batches_and_for_class_lists_of_different_length(short_pair):
    _, ours = short_pair
    ours.test_cfg.chunked_size = 2
    images, samples = make_images(3), make_samples([CLASSES, TEXTS[0], CLASSES[:3]])
    together = predictions_of(ours, images, samples)
    alone = [predictions_of(ours, images[i : i + 1], samples[i : i + 1])[0] for i in range(3)]
    assert_same_predictions(together, alone, 1e-9)
    assert all(len(a) for a in alone)


def test_chunks_of_one_string_are_chunks_of_its_classes(short_pair):
    _, ours = short_pair
    ours.test_cfg.chunked_size = 2
    found = [
        predictions_of(ours, make_images(1), make_samples([text]))
        for text in (("red circle", "raccoon", "penguin"), "red circle. raccoon. penguin.")
    ]
    assert_same_predictions(*found, 0)
    with pytest.raises(ValueError, match="chunked_size needs class names"):
        samples = make_samples(["a raccoon beside a penguin"], custom_entities=False)
        predictions_of(ours, make_images(1), samples)


# ---------------------------------------------------------------------- refused


@pytest.fixture(scope="module")
def mini() -> nn.Module:
    return build_mini_glip().eval()


LONG = tuple(f"raccoon {i}" for i in range(100))


def test_a_caption_that_is_too_long_is_an_error_in_training(mini):
    with pytest.raises(ValueError, match=r"caption of 100 classes has \d+ tokens, but .* 256"):
        losses_of(mini, mini_images(1), mini_samples([LONG]))


@pytest.mark.parametrize(
    "settings",
    [
        dict(),
        dict(custom_entities=False),
        dict(text=". ".join(LONG)),
        dict(text=". ".join(LONG), custom_entities=False, tokens_positive=[[[0, 7]]]),
    ],
    ids=["list", "not custom", "string", "tokens_positive"],
)
def test_a_caption_that_is_too_long_is_an_error_in_prediction(mini, settings):
    advice = "use a shorter text" if "tokens_positive" in settings else "chunked_size=40"
    with pytest.raises(ValueError, match=rf"classes has \d+ tokens, but .*{advice}"):
        predictions_of(mini, mini_images(1), mini_samples([LONG], **settings))


def test_a_long_class_list_is_predicted_in_chunks(mini):
    model = copy.deepcopy(mini)
    model.test_cfg.chunked_size = 40
    found = predictions_of(model, mini_images(1), mini_samples([LONG]))[0]
    assert len(found) and found.labels.max() < 100
    assert found.label_names == [LONG[i] for i in found.labels]
    model.test_cfg.chunked_size = 99
    with pytest.raises(ValueError, match=r"lower chunked_size, which is 99"):
        predictions_of(model, mini_images(1), mini_samples([LONG]))
    # Training is not chunked.
    model.train()
    with pytest.raises(ValueError, match="caption of 100 classes"):
        losses_of(model, mini_images(1), mini_samples([LONG]))


@pytest.mark.parametrize("use", [losses_of, predictions_of])
def test_a_sample_without_class_names_is_an_error_that_says_what_to_set(mini, use):
    samples = mini_samples([TEXTS[0], ()])
    with pytest.raises(ValueError, match="return_classes=True .*'text'.* PackDetInputs"):
        use(mini, mini_images(2), samples)
    del samples[1].text
    with pytest.raises(ValueError, match="return_classes=True .*'text'.* PackDetInputs"):
        use(mini, mini_images(2), samples)


@pytest.mark.parametrize("use", [losses_of, predictions_of])
def test_a_class_whose_name_leaves_no_token_is_an_error(mini, use):
    with pytest.raises(ValueError, match="is empty to the model"):
        use(mini, mini_images(1), mini_samples([("raccoon", "(unknown)")]))


def test_a_label_that_is_not_in_the_caption_is_an_error(mini):
    samples = mini_samples([TEXTS[0]])
    samples[0].gt_instances.labels[0] = 2
    with pytest.raises(ValueError, match="box of class 2, but its caption has 2 classes"):
        losses_of(mini, mini_images(1), samples)


@pytest.mark.parametrize("spans", [-1, [[[0, 3]]]])
def test_tokens_positive_that_do_not_go_with_the_caption_are_an_error(mini, spans):
    with pytest.raises(ValueError, match="character spans in a caption"):
        samples = mini_samples([TEXTS[0]], tokens_positive=spans)
        predictions_of(mini, mini_images(1), samples)


# ---------------------------------------------------------------------- other text widths


@pytest.mark.parametrize("max_tokens", [12, 300])
def test_targets_are_as_wide_as_the_text_encoder_allows(max_tokens, text_folder):
    """MMDetection cuts the map of classes at 256 tokens whatever the encoder takes."""
    model = build_mini_glip(
        language_model=dict(name=str(text_folder), max_tokens=max_tokens),
        bbox_head=dict(lang_model_name=str(text_folder)),
    ).eval()
    names = tuple(f"raccoon {i % 10}" for i in range((max_tokens - 1) // 3))
    _, class_map = model.class_prompt(names)
    assert class_map.shape == (len(names), max_tokens)
    assert class_map[-1].sum() == 2  # 'raccoon' and the digit
    losses = losses_of(model, mini_images(1), mini_samples([names]))
    assert all(value.isfinite() for value in losses.values())
    found = predictions_of(model, mini_images(1), mini_samples([names]))[0]
    assert len(found) and found.scores.isfinite().all()


def test_raw_outputs_are_the_heads(mini):
    """MMDetection's GLIP fails in mode 'tensor', which tools that count operations use."""
    images, samples = mini_images(2), mini_samples(TEXTS[:2])
    with torch.no_grad():
        found = mini(images, samples, mode="tensor")
        text = mini.encode_text([mini.class_prompt(t)[0] for t in TEXTS[:2]])
        wanted = mini.bbox_head(mini.extract_feat(images), text)
    for a, b in zip(found, wanted, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_names_that_passed_for_a_prediction_are_still_refused_for_training():
    model, names = build_mini_glip(), ("circle (M3)", "circle (M5)")
    model.check_class_names(names, "this call", strict=False)
    with pytest.raises(InputError, match="the train dataset"):
        model.check_class_names(names, "the train dataset")
