"""Detectors' weights of other layouts: Hugging Face's models give the same outputs after
conversion, microsoft's and IDEA-Research's names come back, and files are refused in one sentence.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
import transformers
from mmengine.config import ConfigDict
from torch import Tensor, nn

from mmsdpt.utils import base_weights
from mmsdpt.utils.base_weights import load_base_file, read_checkpoint
from mmsdpt.utils.detector_weights import convert_detector, convert_state
from mmsdpt.utils.errors import CheckpointError, InputError
from mmsdpt.utils.foreign_layouts import GLIP, HUGGING_FACE, IDEA
from tests.hosts.small_glip import build, build_small_glip, make_samples, make_text_folder
from tests.hosts.small_grounding_dino import grounding_dino_config

SIZE = (72, 100)
CLASSES = ("red circle", "striped star")


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory) -> Path:
    """A BERT without weights whose special tokens have bert-base-uncased's ids, which Hugging
    Face's Grounding DINO looks for.
    """
    folder = tmp_path_factory.mktemp("bert")
    words = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 1012: ".", 1029: "?"}
    words |= {1030 + i: word for i, word in enumerate("red circle striped star".split())}
    lines = [words.get(i, f"[unused{i}]") for i in range(1040)]
    (folder / "vocab.txt").write_text("\n".join(lines) + "\n")
    config = dict(
        model_type="bert",
        vocab_size=len(lines),
        hidden_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
    )
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def text_folder(tmp_path_factory) -> Path:
    return make_text_folder(tmp_path_factory.mktemp("wide_bert"))


def ours(folder: Path, bias: bool) -> nn.Module:
    config = ConfigDict(grounding_dino_config(folder, ours=True))
    # Hugging Face's text layers and fusion have sizes that follow from the encoder's FFN.
    config.encoder.layer_cfg.ffn_cfg.feedforward_channels = 256
    config.encoder.text_layer_cfg.ffn_cfg.feedforward_channels = 128
    config.encoder.fusion_layer_cfg.embed_dim = 128
    config.bbox_head.contrastive_cfg = dict(
        max_text_len=256, **(dict(log_scale="auto", bias=True) if bias else {})
    )
    return build(config).eval()


def theirs(folder: Path, kind: str) -> nn.Module:
    settings = json.loads((folder / "config.json").read_text())
    config = getattr(transformers, f"{kind}Config")(
        backbone_config=transformers.SwinConfig(
            embed_dim=8,
            depths=[1, 1, 2, 1],
            num_heads=[1, 2, 2, 4],
            window_size=5,
            out_features=["stage2", "stage3", "stage4"],
        ),
        text_config=transformers.BertConfig(**settings),
        num_queries=12,
        encoder_layers=2,
        decoder_layers=2,
        encoder_ffn_dim=256,
        decoder_ffn_dim=32,
    )
    torch.manual_seed(0)
    model = getattr(transformers, f"{kind}ForObjectDetection")(config).eval()
    with (
        torch.no_grad()
    ):  # what starts at zero or one, and is the same in all places, tells nothing
        for name, parameter in sorted(model.named_parameters()):
            if parameter.dim() < 2 or "sampling_offsets" in name or "attention_weights" in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("kind", ["GroundingDino", "MMGroundingDino"])
def test_hugging_faces_models_give_the_same_outputs(bert_folder, tmp_path, kind):
    if not hasattr(transformers, f"{kind}ForObjectDetection"):
        pytest.skip(f"transformers {transformers.__version__} has no {kind}")
    plain = theirs(bert_folder, kind)
    plain.save_pretrained(tmp_path)
    model = ours(bert_folder, bias=kind == "MMGroundingDino")
    out = str(tmp_path / "converted.safetensors")
    assert HUGGING_FACE in convert_detector(str(tmp_path), out)
    load_base_file(model, out)

    images = torch.randn(1, 3, *SIZE)
    (sample,) = make_samples([CLASSES], size=SIZE)
    caption = model.class_prompt(CLASSES)[0]
    tokens = model.language_model.tokenizer([caption], return_tensors="pt")
    names = ("input_ids", "attention_mask", "token_type_ids")
    with torch.no_grad():
        wanted = plain(
            pixel_values=images,
            pixel_mask=torch.ones(1, *SIZE, dtype=torch.long),
            **{name: tokens[name] for name in names},
        )
        logits, boxes = outputs_of(model, images, sample, caption)
    length = tokens.input_ids.shape[1]
    assert wanted.logits[..., :length].std() > 0.01
    compare(logits[-1][..., :length], wanted.logits[..., :length])
    compare(boxes[-1], wanted.pred_boxes)


def compare(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def outputs_of(model: nn.Module, images: Tensor, sample, caption: str) -> tuple[Tensor, Tensor]:
    text = model._text_for_head(model.language_model([caption]))
    return model._head_outputs(model.extract_feat(images), text, [sample])


# ---------------------------------------------------------------------- names


def original_swin(name: str) -> str:
    """Swin's own names; ``backbone.`` is the beginning."""
    for new, old in (
        ("patch_embed.projection", "patch_embed.proj"),
        ("stages", "layers"),
        ("ffn.layers.0.0", "mlp.fc1"),
        ("ffn.layers.1", "mlp.fc2"),
        ("attn.w_msa", "attn"),
    ):
        name = name.replace(new, old)
    return name


def original_order(name: str, value: Tensor) -> Tensor:
    """Of patch merging: (0, 0), (1, 0), (0, 1), (1, 1) one after the other."""
    if ".downsample." not in name:
        return value
    channels = value.unflatten(-1, (-1, 2, 2))  # channel, row, column
    return torch.cat([channels[..., r, c] for r, c in ((0, 0), (1, 0), (0, 1), (1, 1))], dim=-1)


def test_patch_merging_of_the_original_is_the_same_after_conversion():
    """Against the original's code: four slices side by side, norm, product."""
    torch.manual_seed(0)
    norm, weight = nn.LayerNorm(32), torch.randn(16, 32)
    with torch.no_grad():
        norm.weight.normal_()
    x = torch.randn(1, 6, 4, 8)
    slices = [x[:, r::2, c::2] for r, c in ((0, 0), (1, 0), (0, 1), (1, 1))]
    wanted = norm(torch.cat(slices, -1)) @ weight.T
    start = "backbone.0.layers.0.downsample."
    state = {
        f"{start}reduction.weight": weight,
        f"{start}norm.weight": norm.weight,
        f"{start}norm.bias": norm.bias,
        "transformer.encoder.layers.0.norm1.weight": torch.ones(8),
    }
    new = convert_state(state, "x")[1]
    from mmdet.models.layers import PatchMerging

    merging = PatchMerging(8, 16)
    start = "backbone.stages.0.downsample."
    merging.load_state_dict({k.removeprefix(start): v for k, v in new.items() if start in k})
    found = merging(x.flatten(1, 2), (6, 4))[0].unflatten(1, (3, 2))
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def glip_original(name: str) -> str:
    name = re.sub(r"^bbox_head\.", "rpn.", name)
    name = name.replace(".dyconvs.", ".DyConv.").replace(".attnconv.", ".AttnConv.")
    name = re.sub(r"^language_model\.", "", name)
    if found := re.match(r"neck\.(\w+)_convs\.(\d)\.conv", name):
        level, kind = int(found[2]), found[1]
        place = f"fpn_inner{level + 2}" if kind == "lateral" else f"fpn_layer{level + 2}"
        place = f"top_blocks.p{level + 3}" if level > 2 else place
        return f"backbone.fpn.{place}{name[found.end() :]}"
    return re.sub(r"^backbone\.", "backbone.body.", original_swin(name))


def test_microsofts_names_come_back(text_folder, tmp_path):
    model = build_small_glip(text_folder, ours=True)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    old = {f"module.{glip_original(k)}": original_order(k, v) for k, v in state.items()}
    old["module.rpn.anchor_generator.cell_anchors.0"] = torch.zeros(3, 4)
    old["module.rpn.head.cls_logits.bias"] = torch.zeros(2)
    old["module.language_backbone.body.model.embeddings.position_ids"] = torch.arange(9)
    path = tmp_path / "glip.pth"
    torch.save({"model": old, "iteration": 3}, path)
    with pytest.raises(CheckpointError, match="microsoft/GLIP's layout: convert it first, tools/m"):
        load_base_file(model, str(path))
    out = str(tmp_path / "out.safetensors")
    assert convert_detector(str(path), out) == f"{GLIP}: {len(state)} tensors"
    new = read_checkpoint(out)["state_dict"]
    assert new.keys() == state.keys()
    assert all(torch.equal(new[name], value) for name, value in state.items())


def idea_original(name: str, layers: int) -> str:
    found = re.match(r"bbox_head\.reg_branches\.(\d+)\.(\d)\.(\w+)", name)
    if found:
        last = int(found[1]) == layers
        start = "transformer.enc_out_bbox_embed" if last else f"bbox_embed.{found[1]}"
        return f"{start}.layers.{int(found[2]) // 2}.{found[3]}"
    if found := re.match(r"neck\.(extra_)?convs\.(\d)\.(conv|gn)\.(\w+)", name):
        level = int(found[2]) + (3 if found[1] else 0)
        return f"input_proj.{level}.{int(found[3] == 'gn')}.{found[4]}"
    for new, old in (
        ("language_model.language_backbone.body.model.", "bert."),
        ("text_feat_map.", "feat_map."),
        ("query_embedding.", "transformer.tgt_embed."),
        ("memory_trans_fc.", "transformer.enc_output."),
        ("memory_trans_norm.", "transformer.enc_output_norm."),
    ):
        if name.startswith(new):
            return name.replace(new, old)
    if name.startswith("backbone."):
        return re.sub(r"^backbone\.", "backbone.0.", original_swin(name))
    if name.startswith("decoder.layers."):
        order = {"0": "norm2", "1": "catext_norm", "2": "norm1", "3": "norm3"}
        name = re.sub(r"\.norms\.(\d)\.", lambda found: f".{order[found[1]]}.", name)
        name = name.replace("cross_attn_text.attn.", "ca_text.")
    name = re.sub(r"\.norms\.(\d)\.", lambda found: f".norm{int(found[1]) + 1}.", name)
    name = name.replace("self_attn.attn.", "self_attn.")
    name = name.replace("ffn.layers.0.0", "linear1").replace("ffn.layers.1", "linear2")
    return f"transformer.{name}"


def test_idea_researchs_names_come_back(bert_folder):
    model = ours(bert_folder, bias=False)
    state = {k: v.clone() for k, v in model.state_dict().items() if not k.startswith("dn_query")}
    old = {f"module.{idea_original(k, 2)}": original_order(k, v) for k, v in state.items()}
    assert len(old) == len(state)
    old["module.label_enc.weight"] = torch.zeros(3, 2)
    layout, new = convert_state(old, "x")
    assert layout == IDEA
    assert new.keys() == state.keys()
    assert all(torch.equal(new[name], value) for name, value in state.items())


# ---------------------------------------------------------------------- refused


def test_mmdetections_own_names_are_written_as_they_are(text_folder, tmp_path):
    state = build_small_glip(text_folder, ours=True).state_dict()
    torch.save({"state_dict": state}, tmp_path / "own.pth")
    out = str(tmp_path / "own.safetensors")
    convert_detector(str(tmp_path / "own.pth"), out)
    new = read_checkpoint(out)["state_dict"]
    assert new.keys() == state.keys() and all(torch.equal(new[k], v) for k, v in state.items())


def test_what_cannot_be_converted_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match=r"must end in .safetensors, got out.pth"):
        convert_detector("x", "out.pth")
    with pytest.raises(CheckpointError, match="file or folder not found: nowhere"):
        convert_detector("nowhere", "out.safetensors")
    with pytest.raises(CheckpointError, match="none of the known layouts .* its tensors are a.b"):
        convert_state({"a.b": torch.zeros(1)}, "x")
    glip = {"backbone.body.norm1.weight": torch.ones(1), "rpn.head.bias0": torch.ones(1)}
    with pytest.raises(CheckpointError, match="not microsoft/GLIP's layout: mask_head.weight"):
        convert_state({**glip, "mask_head.weight": torch.ones(1)}, "x")
    with pytest.raises(CheckpointError, match="not finite in bbox_head.head.bias0"):
        convert_state({**glip, "rpn.head.bias0": torch.tensor(float("nan"))}, "x")


@pytest.mark.parametrize("version", ["2.5.1", "2.9.1+cu128"])
def test_an_old_torch_reads_safetensors_and_no_pth(tmp_path, monkeypatch, version):
    from safetensors.torch import save_file

    torch.save({"a": torch.ones(1)}, tmp_path / "a.pth")
    save_file({"a": torch.ones(1)}, tmp_path / "a.safetensors")
    monkeypatch.setattr(base_weights.torch, "__version__", version)
    assert read_checkpoint(str(tmp_path / "a.safetensors"))["state_dict"]["a"] == 1
    with pytest.raises(
        CheckpointError,
        match=r"a.pth cannot be read safely with torch 2.*install torch 2.10 .*detector2m",
    ):
        read_checkpoint(str(tmp_path / "a.pth"))
