"""Grounding DINO as a host: MMDetection's names, losses, gradients and predictions; what is frozen;
what is refused.
"""

from __future__ import annotations

import copy

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.hub import get_config
from torch import nn

from mmsdpt.analysis.attention import PROTOTYPES, look_of_detector
from mmsdpt.utils.base_weights import (
    CheckpointError,
    load_base_weights,
    read_checkpoint,
    resolve_checkpoint,
)
from tests.hosts.full_size import on_meta
from tests.hosts.small_glip import (
    assert_near,
    assert_same_predictions,
    losses_of,
    make_images,
    make_samples,
    predictions_of,
)
from tests.hosts.small_grounding_dino import (
    build_small_grounding_dino,
    float64,
    pair,
    toolbox_corrected,
)

SAME = [("red circle", "striped blue star")] * 2
RAGGED = [("red circle",), ("jellyfish", "penguin (bird)", "star_fish", "a hollow pentagon")]
TOLERANCE = 1e-9
SDPT = dict(type="mmsdpt.SDPT", num_tokens=3)
# MMDetection's configs, with ours for the same model where there is one.
CONFIGS = {
    "grounding_dino/grounding_dino_swin-t_pretrain_obj365_goldg_cap4m": None,
    "grounding_dino/grounding_dino_swin-t_finetune_16xb2_1x_coco": None,
    "grounding_dino/grounding_dino_swin-b_pretrain_mixeddata": None,
    "mm_grounding_dino/grounding_dino_swin-t_pretrain_obj365": "mm_grounding_dino_swin_t",
    "mm_grounding_dino/grounding_dino_swin-b_pretrain_all": None,
    "mm_grounding_dino/grounding_dino_swin-l_pretrain_all": "mm_grounding_dino_swin_l",
}


@pytest.fixture(scope="module")
def models(text_folder) -> tuple[nn.Module, nn.Module]:
    """Ours with MMDetection's masks, and MMDetection's."""
    return pair(text_folder, independent_captions=False)


@pytest.fixture(scope="module")
def independent(text_folder, models) -> nn.Module:
    """Ours as it is by default, the same weights."""
    model = build_small_grounding_dino(text_folder, ours=True).double()
    model.load_state_dict(models[0].state_dict())
    return model


@pytest.fixture
def exact():
    with toolbox_corrected(), float64():
        yield


def in_training(model: nn.Module, images, samples) -> dict[str, torch.Tensor]:
    """Losses with the same denoising queries each time, and without BERT's dropout, which ours does
    not draw where it is frozen.
    """
    torch.manual_seed(0)
    model.train()
    model.language_model.eval()
    try:
        return losses_of(model, images, samples)
    finally:
        model.eval()


def samples_of(texts, padded: bool = False, **kwargs):
    samples = make_samples(texts, **kwargs)
    if padded:  # the second image is smaller than the batch's
        samples[1].set_metainfo(dict(img_shape=(60, 84)))
    return samples


# ---------------------------------------------------------------------- names


@pytest.mark.parametrize("name", CONFIGS)
def test_it_has_mmdetections_names_and_shapes(name, bert_without_weights, repository):
    try:
        theirs = get_config(f"mmdet::{name}.py").model
    except FileNotFoundError:
        pytest.skip("MMDetection 3.3.0 has no such file")
    theirs.language_model.name = bert_without_weights
    theirs.backbone.pop("init_cfg", None)
    ours = copy.deepcopy(theirs)
    theirs.encoder.pop("num_cp", None)  # which needs fairscale, and adds no parameter
    for part in (ours, ours.backbone, ours.language_model, ours.bbox_head):
        part.type = f"mmsdpt.{part.type}"
    if CONFIGS[name]:
        path = repository / f"configs/_base_/models/{CONFIGS[name]}.py"
        ours = Config.fromfile(str(path)).model
        ours.language_model.name = bert_without_weights
    ours.tuner = dict(type="mmsdpt.SDPT", num_tokens=10)
    with on_meta():
        wanted, found = MODELS.build(theirs).state_dict(), MODELS.build(ours)
    host = {n: p.shape for n, p in found.state_dict().items() if not n.startswith("tuners.")}
    assert host == {n: p.shape for n, p in wanted.items()}
    trains = {n: p.numel() for n, p in found.named_parameters() if p.requires_grad}
    assert all(n.startswith("tuners.") for n in trains) and sum(trains.values()) == 61_440


# ---------------------------------------------------------------------- equal to MMDetection


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("padded", [False, True], ids=["", "padded"])
@pytest.mark.parametrize("texts", [SAME, RAGGED], ids=["same", "ragged"])
def test_losses_and_gradients_are_mmdetections(models, texts, padded):
    images, samples = make_images(2), samples_of(texts, padded)
    results = []
    for model in models:
        model.requires_grad_(True).zero_grad()
        losses = in_training(model, images, samples)
        sum(losses.values()).sum().backward()
        results.append((losses, {n: p.grad for n, p in model.named_parameters()}))
        model.requires_grad_(False).zero_grad()
    (losses, gradients), (wanted_losses, wanted_gradients) = results
    assert losses.keys() == wanted_losses.keys() and "d0.dn_loss_iou" in losses
    for name, loss in wanted_losses.items():
        assert_near(loss, losses[name], TOLERANCE, name)
    largest = max(g.abs().max().item() for g in wanted_gradients.values() if g is not None)
    for name, gradient in wanted_gradients.items():
        if gradient is None:
            assert gradients[name] is None or not gradients[name].any(), name
        else:
            assert_near(gradients[name], gradient, TOLERANCE, name, floor=1e-3 * largest)


@pytest.mark.usefixtures("exact")
def test_an_image_without_boxes_trains(models):
    images, samples = make_images(2), samples_of(SAME, empty=(1,))
    found, wanted = (in_training(model, images, samples) for model in models)
    for name, loss in wanted.items():
        assert_near(found[name], loss, TOLERANCE, name)


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("padded", [False, True], ids=["", "padded"])
@pytest.mark.parametrize("texts", [SAME, RAGGED, RAGGED[1:]], ids=["same", "ragged", "one"])
def test_encoder_outputs_and_predictions_are_mmdetections(models, texts, padded):
    if padded and len(texts) == 1:
        pytest.skip("an image alone is not padded")
    images, samples = make_images(len(texts)), samples_of(texts, padded)
    ours, theirs = models
    memories = []
    for model in models:
        with torch.no_grad():
            handle = model.encoder.register_forward_hook(lambda m, i, o: memories.append(o))
            predictions = predictions_of(model, images, samples)
            handle.remove()
        memories.append(predictions)
    (found, found_boxes, wanted, wanted_boxes) = memories
    for a, b in zip(found, wanted, strict=True):
        assert_near(a, b, TOLERANCE)
    assert_same_predictions(found_boxes, wanted_boxes, TOLERANCE)


@pytest.mark.usefixtures("exact")
def test_chunks_of_a_class_list_are_mmdetections(models, monkeypatch):
    images, samples = make_images(1), samples_of(RAGGED[1:])
    for model in models:
        monkeypatch.setattr(model, "test_cfg", dict(chunked_size=3, max_per_img=10))
    found, wanted = (predictions_of(model, images, samples) for model in models)
    # MMDetection names a class by its place in the chunk.
    assert {int(label) for label in found[0].labels} > {3}
    names = RAGGED[1]
    for a, b in zip(found, wanted, strict=True):
        assert a.label_names == [
            names[i].replace(" (bird)", " ").replace("_", " ") for i in a.labels.tolist()
        ]
        del a.label_names, b.label_names
    assert_same_predictions(found, wanted, TOLERANCE)


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize(
    ("text", "spans"), [(RAGGED[0], {}), (RAGGED[0][0], dict(tokens_positive=-1))]
)
def test_fewer_boxes_than_max_per_img_are_all_returned(models, monkeypatch, text, spans):
    model, more = models[0], dict(max_per_img=models[0].num_queries + 1)
    monkeypatch.setattr(model.bbox_head, "test_cfg", more)
    (found,) = predictions_of(model, make_images(1), samples_of([text], **spans))
    assert len(found) == model.num_queries
    assert model.bbox_head.test_cfg is more


@pytest.mark.usefixtures("exact")
def test_a_whole_caption_can_be_looked_for(models):
    samples = samples_of(["the red circle beside a star"], tokens_positive=-1)
    found, wanted = (predictions_of(model, make_images(1), samples) for model in models)
    assert_same_predictions(found, wanted, TOLERANCE)


@pytest.mark.usefixtures("exact")
def test_captions_with_spans_train_as_in_mmdetection(models):
    caption = "a red circle and a star. "
    samples = samples_of([caption] * 2, tokens_positive={0: [[2, 12]], 1: [[19, 23]]})
    found, wanted = (in_training(model, make_images(2), samples) for model in models)
    for name, loss in wanted.items():
        assert_near(found[name], loss, TOLERANCE, name)


# ---------------------------------------------------------------------- masks


@pytest.mark.usefixtures("exact")
def test_by_default_an_image_does_not_depend_on_the_other_captions(models, independent):
    images, samples = make_images(2), samples_of(RAGGED)
    alone = predictions_of(models[1], images[:1], samples[:1])
    assert_same_predictions(predictions_of(independent, images, samples)[:1], alone, TOLERANCE)
    with pytest.raises(AssertionError):
        assert_same_predictions(predictions_of(models[0], images, samples)[:1], alone, 1e-4)


@pytest.mark.usefixtures("exact")
def test_with_equal_captions_the_default_is_mmdetections(models, independent):
    images, samples = make_images(2), samples_of(SAME, padded=True)
    found, wanted = (in_training(model, images, samples) for model in (independent, models[1]))
    for name, loss in wanted.items():
        assert_near(found[name], loss, TOLERANCE, name)


# ---------------------------------------------------------------------- what trains, what is saved


def test_recomputation_gives_the_same_gradients(text_folder):
    gradients = []
    for num_cp in (-1, 2):
        model = build_small_grounding_dino(text_folder, ours=True, tuner=SDPT)
        model.encoder.num_cp = num_cp
        losses = in_training(model, make_images(2, dtype=torch.float32), samples_of(RAGGED))
        sum(losses.values()).sum().backward()
        gradients.append(model.tuners.default.tokens.weight.grad)
    assert gradients[0].abs().max() > 0
    assert torch.equal(*gradients)


def test_frozen_encoders_run_without_gradients_and_the_text_once(text_folder, monkeypatch):
    model = build_small_grounding_dino(text_folder, ours=True, tuner=SDPT).train()
    seen = []
    model.neck.register_forward_hook(
        lambda m, i, o: seen.extend(level.requires_grad for level in o)
    )
    captions = []
    body = model.language_model.language_backbone.body
    body.register_forward_pre_hook(lambda m, inputs: captions.append(inputs[0]["input_ids"]))
    images, samples = make_images(2, dtype=torch.float32), samples_of(RAGGED)
    for _ in range(2):
        sum(losses_of(model, images, samples).values()).sum().backward()
    assert seen and not any(seen)
    assert len(captions) == 2 and all(len(ids) == 1 for ids in captions)
    assert {n for n, p in model.named_parameters() if p.grad is not None} == {
        "tuners.default.tokens.weight"
    }


def test_losses_in_eval_mode_have_no_denoising(models):
    with float64():
        losses = losses_of(models[0], make_images(2), samples_of(SAME))
    assert set(losses) == {
        f"{part}loss_{kind}" for part in ("", "d0.", "enc_") for kind in ("cls", "bbox", "iou")
    }


def test_weights_without_label_embeddings_load_with_zeros(text_folder):
    model = build_small_grounding_dino(text_folder, ours=True)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    name = "dn_query_generator.label_embedding.weight"
    state.pop(name)
    load_base_weights(model, state, "base.pth")
    assert not model.state_dict()[name].any()
    state.pop("text_feat_map.weight")
    with pytest.raises(CheckpointError, match="1 tensors missing: text_feat_map.weight"):
        load_base_weights(model, state, "base.pth")


def test_a_look_shows_the_attention_of_its_fusion_layers(text_folder):
    model = build_small_grounding_dino(text_folder, ours=True, tuner=SDPT)
    (sample,) = make_samples([("cat", "red dog")])
    images = make_images(1, dtype=torch.float32)
    with torch.no_grad():
        look = look_of_detector(model, images, sample, lambda scores: ["red dog"])
    assert look.rows == ("cat", "red dog", PROTOTYPES)
    assert look.attention.shape == (2, 4, 3, 9, 13) and look.attention.min() >= 0
    assert look.evidence.shape == (1, 9, 13) and look.evidence.max() > 0
    assert all(0 < score < 1 for score in look.scores.values())


def test_the_mini_one_starts_from_the_encoders_of_mini_glip(repository):
    config = Config.fromfile(str(repository / "configs/mini/pretrain_mini_grounding_dino.py"))
    model = MODELS.build(config.model)
    model.init_weights()
    found = model.state_dict()
    known = read_checkpoint(resolve_checkpoint("mmsdpt://mini_glip"))["state_dict"]
    for part in ("backbone.", "language_model."):
        names = {name for name in found if name.startswith(part)}
        assert names == {name for name in known if name.startswith(part)}
        assert [name for name in names if not torch.equal(found[name], known[name].float())] == []


# ---------------------------------------------------------------------- what is refused


def test_settings_that_cannot_work_are_refused(text_folder):
    def build(part: str, **changes):
        config = dict(language_model={}, bbox_head={}, positional_encoding={})
        config[part] = changes
        return build_small_grounding_dino(text_folder, ours=True, merged=config)

    with pytest.raises(ValueError, match="use_sub_sentence_represent=True"):
        build("language_model", use_sub_sentence_represent=False)
    with pytest.raises(ValueError, match="max_tokens is 300, but the head compares with 256"):
        build("language_model", max_tokens=300)
    with pytest.raises(ValueError, match="num_feats is 64, expected half"):
        build("positional_encoding", num_feats=64)


def test_images_with_fewer_positions_than_queries_are_refused(text_folder):
    model = build_small_grounding_dino(text_folder, ours=True)
    images = make_images(1, (16, 16), dtype=torch.float32)
    with pytest.raises(ValueError, match="has 7 positions for 12 queries: enlarge the images"):
        losses_of(model, images, make_samples([("cat",)], (16, 16)))


def test_more_classes_than_label_embeddings_are_refused(text_folder):
    model = build_small_grounding_dino(
        text_folder, ours=True, merged=dict(bbox_head=dict(num_classes=1))
    )
    with pytest.raises(ValueError, match="1 label embeddings .* fewer classes per caption"):
        losses_of(model, make_images(2, dtype=torch.float32), samples_of(RAGGED))
