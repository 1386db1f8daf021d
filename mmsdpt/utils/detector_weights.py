"""Convert the weights of GLIP and Grounding DINO from any known layout to MMDetection's names.

Supported are microsoft/GLIP's checkpoints, IDEA-Research's of Grounding DINO, and Hugging Face's
``GroundingDinoForObjectDetection`` and ``MMGroundingDinoForObjectDetection``. MMDetection's own
converters (glip_to_mmdet.py, groundingdino_to_mmdet.py) define the mapping of names.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from .atomic import write_atomically
from .base_weights import not_finite, read_checkpoint, state_dict_of
from .errors import CheckpointError, InputError, listed
from .foreign_layouts import (
    GLIP,
    HUGGING_FACE,
    IDEA,
    Rules,
    joined,
    layout_of,
    one_weight_file,
    renamed,
)

_BERT = "language_model.language_backbone.body.model."

# Names inside Swin, with the stage numbers of the original.
_SWIN: Rules = (
    (r"^backbone\.patch_embed\.proj\.", "backbone.patch_embed.projection."),
    (r"^backbone\.layers\.", "backbone.stages."),
    (r"^(backbone\.stages\.\d+\.blocks\.\d+)\.mlp\.fc1\.", r"\1.ffn.layers.0.0."),
    (r"^(backbone\.stages\.\d+\.blocks\.\d+)\.mlp\.fc2\.", r"\1.ffn.layers.1."),
    (r"^(backbone\.stages\.\d+\.blocks\.\d+)\.attn\.", r"\1.attn.w_msa."),
)
_GLIP: Rules = (
    (r"^backbone\.body\.", "backbone."),
    *((rf"^backbone\.fpn\.fpn_inner{i + 2}\.", f"neck.lateral_convs.{i}.conv.") for i in range(3)),
    *((rf"^backbone\.fpn\.fpn_layer{i + 2}\.", f"neck.fpn_convs.{i}.conv.") for i in range(3)),
    *((rf"^backbone\.fpn\.top_blocks\.p{i + 3}\.", f"neck.fpn_convs.{i}.conv.") for i in (3, 4)),
    (r"^language_backbone\.", "language_model.language_backbone."),
    (r"^rpn\.", "bbox_head."),
    (r"\.DyConv\.", ".dyconvs."),
    (r"\.AttnConv\.", ".attnconv."),
    *_SWIN,
)
_FFN: Rules = ((r"\.linear1\.", ".ffn.layers.0.0."), (r"\.linear2\.", ".ffn.layers.1."))
_IDEA: Rules = (
    (r"^backbone\.0\.", "backbone."),
    (r"^bert\.", _BERT),
    (r"^feat_map\.", "text_feat_map."),
    (r"^bbox_embed\.", "transformer.decoder.bbox_embed."),
    (r"^transformer\.enc_output\.", "memory_trans_fc."),
    (r"^transformer\.enc_output_norm\.", "memory_trans_norm."),
    (r"^transformer\.tgt_embed\.", "query_embedding."),
    (r"^transformer\.enc_out_bbox_embed\.", "bbox_embed.last."),
    (r"^transformer\.decoder\.bbox_embed\.", "bbox_embed."),
    (r"^transformer\.", ""),
    (r"^(encoder\.(?:text_)?layers\.\d+)\.norm1\.", r"\1.norms.0."),
    (r"^(encoder\.(?:text_)?layers\.\d+)\.norm2\.", r"\1.norms.1."),
    (r"^(encoder\.text_layers\.\d+\.self_attn)\.", r"\1.attn."),
    # The decoder's norms are not numbered in the order of use.
    (r"^(decoder\.layers\.\d+)\.norm2\.", r"\1.norms.0."),
    (r"^(decoder\.layers\.\d+)\.catext_norm\.", r"\1.norms.1."),
    (r"^(decoder\.layers\.\d+)\.norm1\.", r"\1.norms.2."),
    (r"^(decoder\.layers\.\d+)\.norm3\.", r"\1.norms.3."),
    (r"^(decoder\.layers\.\d+)\.ca_text\.", r"\1.cross_attn_text.attn."),
    (r"^(decoder\.layers\.\d+\.self_attn)\.", r"\1.attn."),
    *_FFN,
    *_SWIN,
)
_BLOCK = r"^(backbone\.stages\.\d+\.blocks\.\d+)\."
_HUGGING_FACE: Rules = (
    (r"^model\.backbone\.conv_encoder\.model\.(?:swin\.)?", "backbone."),
    (r"^backbone\.embeddings\.patch_embeddings\.", "backbone.patch_embed."),
    (r"^backbone\.embeddings\.norm\.", "backbone.patch_embed.norm."),
    (r"^backbone\.encoder\.layers\.", "backbone.stages."),
    (_BLOCK + r"layernorm_before\.", r"\1.norm1."),
    (_BLOCK + r"layernorm_after\.", r"\1.norm2."),
    (_BLOCK + r"attention\.(?:self\.)?(?:query|q_proj)\.", r"\1.attn.w_msa.q_of_qkv."),
    (_BLOCK + r"attention\.(?:self\.)?(?:key|k_proj)\.", r"\1.attn.w_msa.k_of_qkv."),
    (_BLOCK + r"attention\.(?:self\.)?(?:value|v_proj)\.", r"\1.attn.w_msa.v_of_qkv."),
    (_BLOCK + r"attention\.(?:output\.dense|o_proj)\.", r"\1.attn.w_msa.proj."),
    (_BLOCK + r"attention\..*(relative_position_\w+)$", r"\1.attn.w_msa.\2"),
    (_BLOCK + r"(?:intermediate\.dense|mlp\.fc1)\.", r"\1.ffn.layers.0.0."),
    (_BLOCK + r"(?:output\.dense|mlp\.fc2)\.", r"\1.ffn.layers.1."),
    (r"^backbone\.hidden_states_norms\.stage2\.", "backbone.norm1."),
    (r"^backbone\.hidden_states_norms\.stage3\.", "backbone.norm2."),
    (r"^backbone\.hidden_states_norms\.stage4\.", "backbone.norm3."),
    (r"^backbone\.hidden_states_norms\.stage1\.", "backbone.norm0."),
    (r"^model\.text_backbone\.", _BERT),
    (r"^model\.text_projection\.", "text_feat_map."),
    (r"^model\.query_position_embeddings\.", "query_embedding."),
    (r"^model\.input_proj_vision\.", "input_proj."),
    (r"^model\.enc_output\.", "memory_trans_fc."),
    (r"^model\.enc_output_norm\.", "memory_trans_norm."),
    (r"^model\.encoder_output_bbox_embed\.", "bbox_embed.last."),
    (r"^model\.encoder_output_class_embed\.", "class_embed.last."),
    (r"^model\.decoder\.(bbox|class)_embed\.", r"\1_embed."),
    (r"^model\.decoder\.layer_norm\.", "decoder.norm."),
    (r"^model\.decoder\.reference_points_head\.", "decoder.ref_point_head."),
    (r"^model\.", ""),
    (r"^encoder\.layers\.(\d+)\.text_enhancer_layer\.", r"encoder.text_layers.\1."),
    (r"^encoder\.layers\.(\d+)\.fusion_layer\.", r"encoder.fusion_layers.\1."),
    (r"^encoder\.layers\.(\d+)\.deformable_layer\.", r"encoder.layers.\1."),
    (r"^(encoder\.fusion_layers\.\d+)\.vision_param$", r"\1.gamma_v"),
    (r"^(encoder\.fusion_layers\.\d+)\.text_param$", r"\1.gamma_l"),
    (r"^(encoder\.fusion_layers\.\d+\..*)vision", r"\1v"),
    (r"^(encoder\.fusion_layers\.\d+\..*)text", r"\1l"),
    (r"^(encoder\.text_layers\.\d+)\.layer_norm_before\.", r"\1.norms.0."),
    (r"^(encoder\.text_layers\.\d+)\.layer_norm_after\.", r"\1.norms.1."),
    (r"^(encoder\.layers\.\d+)\.self_attn_layer_norm\.", r"\1.norms.0."),
    (r"^(encoder\.layers\.\d+)\.final_layer_norm\.", r"\1.norms.1."),
    (r"^(decoder\.layers\.\d+)\.self_attn_layer_norm\.", r"\1.norms.0."),
    (r"^(decoder\.layers\.\d+)\.encoder_attn_text_layer_norm\.", r"\1.norms.1."),
    (r"^(decoder\.layers\.\d+)\.encoder_attn_layer_norm\.", r"\1.norms.2."),
    (r"^(decoder\.layers\.\d+)\.final_layer_norm\.", r"\1.norms.3."),
    (r"^(decoder\.layers\.\d+)\.encoder_attn_text\.", r"\1.cross_attn_text.attn."),
    (r"^(decoder\.layers\.\d+)\.encoder_attn\.", r"\1.cross_attn."),
    (r"^((?:encoder\.text|decoder\.)_?layers\.\d+\.self_attn)\.", r"\1.attn."),
    (r"\.attn\.query\.(weight|bias)$", r".attn.q_of_in_proj_\1"),
    (r"\.attn\.key\.(weight|bias)$", r".attn.k_of_in_proj_\1"),
    (r"\.attn\.value\.(weight|bias)$", r".attn.v_of_in_proj_\1"),
    (r"^((?:en|de)coder\.(?:text_)?layers\.\d+)\.fc1\.", r"\1.ffn.layers.0.0."),
    (r"^((?:en|de)coder\.(?:text_)?layers\.\d+)\.fc2\.", r"\1.ffn.layers.1."),
)
# Tensors that MMDetection's detectors do not have, or compute themselves.
_DROPPED = {
    GLIP: r"anchor_generator|resizer|cls_logits|\.pooler\.|position_ids$|attn_mask$",
    IDEA: r"^label_enc\.|\.pooler\.|position_ids$|attn_mask$",
    HUGGING_FACE: r"\.pooler\.|position_ids$|^model\.backbone\.conv_encoder\.model\.(swin\.)?"
    r"layernorm\.",
}
_RULES = {GLIP: _GLIP, IDEA: _IDEA, HUGGING_FACE: _HUGGING_FACE}


def convert_detector(source: str, out: str) -> str:
    """Read a detector's weights of any known layout and write them under MMDetection's names.

    Args:
        source: A file, or a folder as on Hugging Face.
        out: File to write, .safetensors; written atomically.

    Returns:
        One line: the layout that was found, and how many tensors were written.

    Raises:
        InputError: Naming what cannot be read, is unknown or unexpected.
    """
    if not out.endswith(".safetensors"):
        raise InputError(f"the file to write must end in .safetensors, got {out}")
    path = Path(source)
    file = one_weight_file(path) if path.is_dir() else path
    if not file.is_file():
        raise CheckpointError(f"file or folder not found: {source}")
    layout, state = convert_state(state_dict_of(read_checkpoint(str(file))), source)
    write_atomically(out, safetensors.torch.save(state, metadata={"format": "pt"}))
    return f"{layout}: {len(state)} tensors"


def convert_state(state: Mapping[str, Any], origin: str) -> tuple[str, dict[str, Tensor]]:
    """Rename a state dict of any known layout.

    Args:
        state: Tensors by the names of their layout.
        origin: Name of the source for messages.

    Returns:
        The layout's name, and tensors of their own by MMDetection's names.

    Raises:
        CheckpointError: The layout is unknown, or tensors are damaged or unexpected.
    """
    state = {str(name).removeprefix("module."): value for name, value in state.items()}
    if not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"the state dict of {origin} holds more than tensors")
    layout = layout_of(state)
    if layout is None:
        raise CheckpointError(
            f"{origin} has none of the known layouts ({GLIP}, {IDEA}, {HUGGING_FACE}, or"
            f" MMDetection's): its tensors are {listed(list(state)) or 'none'}"
        )
    if layout in _RULES:
        state = {k: v for k, v in state.items() if not re.search(_DROPPED[layout], k)}
        state = joined(renamed(state, _RULES[layout]), "([qkv])_of_", "", origin)
        state = _swin_as_unfolded(state)
        if layout != GLIP:
            state = _grounding_dino(state)
        if left := [name for name in state if not _TARGET.match(name)]:
            raise CheckpointError(f"{origin} has tensors that are not {layout}: {listed(left)}")
    if damaged := not_finite(state):
        raise CheckpointError(
            f"{origin} is damaged: it has values that are not finite in {listed(damaged)}"
        )
    return layout, {k: v.detach().clone().contiguous() for k, v in state.items()}


# Prefixes of MMDetection's names.
_TARGET = re.compile(
    r"(backbone\.(patch_embed|stages\.\d+|norm\d)|neck\.\w+convs|language_model\.language_backbone"
    r"\.body\.model|bbox_head|encoder\.(text_|fusion_)?layers|decoder\.(layers|norm|ref_point_head)"
    r"|text_feat_map|query_embedding|memory_trans_(fc|norm)|dn_query_generator)\.|"
    r"neck\.convs\.|level_embed$"
)


def _swin_as_unfolded(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Reorder the patch merging: MMDetection reads (channel, row, column), the original reads the
    patches (0, 0), (1, 0), (0, 1), (1, 1) one after the other. Also adds the index of relative
    positions, a buffer that some layouts do not have.
    """
    swin = dict(state)
    for name, value in state.items():
        if re.match(r"backbone\.stages\.\d+\.downsample\.", name):
            patches = value.unflatten(-1, (4, -1))[..., [0, 2, 1, 3], :]
            swin[name] = patches.transpose(-1, -2).flatten(-2)
        if name.endswith(".relative_position_bias_table"):
            index = name.replace("bias_table", "index")
            swin[index] = _relative_positions((math.isqrt(len(value)) + 1) // 2)
    return swin


def _relative_positions(side: int) -> Tensor:
    """Row of the bias table for each pair of positions of a window, (side², side²)."""
    y, x = (t.flatten() for t in torch.meshgrid(*[torch.arange(side)] * 2, indexing="ij"))
    rows = (y[:, None] - y + side - 1) * (2 * side - 1)
    return rows + x[:, None] - x + side - 1


def _grounding_dino(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Neck and prediction layers, which the two layouts number differently."""
    converted: dict[str, Tensor] = {}
    layers = 1 + max(
        (int(found[1]) for name in state if (found := re.match(r"decoder\.layers\.(\d+)\.", name))),
        default=-1,
    )
    inner = sum(
        value.shape[-1] == 1
        for name, value in state.items()
        if re.fullmatch(r"input_proj\.\d+\.0\.weight", name)
    )
    for name, value in state.items():
        if found := re.fullmatch(r"input_proj\.(\d+)\.([01])\.(\w+)", name):
            level, part = int(found[1]), ("conv", "gn")[int(found[2])]
            place = f"convs.{level}" if level < inner else f"extra_convs.{level - inner}"
            name = f"neck.{place}.{part}.{found[3]}"
        elif found := re.fullmatch(r"bbox_embed\.(\d+|last)\.layers\.(\d+)\.(\w+)", name):
            branch = layers if found[1] == "last" else found[1]
            name = f"bbox_head.reg_branches.{branch}.{2 * int(found[2])}.{found[3]}"
        elif found := re.fullmatch(r"class_embed\.(\d+|last)\.bias", name):
            name = f"bbox_head.cls_branches.{layers if found[1] == 'last' else found[1]}.bias"
            value = value.reshape(1)
        converted[name] = value
    for name, value in list(converted.items()):  # a branch of several layers is saved once
        if found := re.fullmatch(r"(bbox_head\.\w+_branches)\.0\.(.+)", name):
            for i in range(1, layers):
                converted.setdefault(f"{found[1]}.{i}.{found[2]}", value)
    return converted
