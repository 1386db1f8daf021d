"""Convert the weights of CLIP models with a ViT from any known layout to MMPreTrain's names.

Supported are OpenAI's TorchScript archives, state dicts with OpenAI's names (open_clip's are the
same, or have the prefix ``text.`` for the text tower) and Hugging Face's ``CLIPModel``.
"""

from __future__ import annotations

import io
import math
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from mmsdpt.utils.atomic import write_atomically
from mmsdpt.utils.base_weights import CheckpointError, not_finite, read_checkpoint
from mmsdpt.utils.errors import InputError, listed
from mmsdpt.utils.texts import read_json

from .foreign_layouts import joined, one_weight_file, renamed
from .torchscript_archive import is_torchscript, read_torchscript

_CODE_BYTES = 2**20  # largest source file of an archive; OpenAI's have about 50 kB
# Buffers and attributes that are not weights.
_DROPPED = {"input_resolution", "context_length", "vocab_size", "position_ids", "attn_mask"}
_READ = "OpenAI's archives, state dicts with OpenAI's or open_clip's names, and Hugging Face's"

_HUGGING_FACE_TO_OPENAI = (
    (r"^vision_model\.embeddings\.class_embedding$", "visual.class_embedding"),
    (r"^vision_model\.embeddings\.patch_embedding\.", "visual.conv1."),
    (r"^vision_model\.embeddings\.position_embedding\.weight$", "visual.positional_embedding"),
    (r"^vision_model\.pre_layrnorm\.", "visual.ln_pre."),
    (r"^vision_model\.post_layernorm\.", "visual.ln_post."),
    (r"^vision_model\.encoder\.layers\.", "visual.transformer.resblocks."),
    (r"^visual_projection\.weight$", "visual.proj"),
    (r"^text_model\.embeddings\.token_embedding\.", "token_embedding."),
    (r"^text_model\.embeddings\.position_embedding\.weight$", "positional_embedding"),
    (r"^text_model\.encoder\.layers\.", "transformer.resblocks."),
    (r"^text_model\.final_layer_norm\.", "ln_final."),
    (r"^text_projection\.weight$", "text_projection"),
    (r"(?<=\d\.)self_attn\.in_proj\.", "attn.in_proj_"),
    (r"(?<=\d\.)self_attn\.out_proj\.", "attn.out_proj."),
    (r"(?<=\d\.)layer_norm([12])\.", r"ln_\1."),
    (r"(?<=\d\.)mlp\.fc1\.", "mlp.c_fc."),
    (r"(?<=\d\.)mlp\.fc2\.", "mlp.c_proj."),
)
# MMPreTrain's text tower also has OpenAI's names.
_OPENAI_TO_MMPRETRAIN = (
    (r"^visual\.class_embedding$", "visual.cls_token"),
    (r"^visual\.positional_embedding$", "visual.pos_embed"),
    (r"^visual\.conv1\.", "visual.patch_embed.projection."),
    (r"^visual\.ln_pre\.", "visual.pre_norm."),
    (r"^visual\.ln_post\.", "visual.ln1."),
    (r"^visual\.proj$", "visual_proj.proj"),
    (r"^visual\.transformer\.resblocks\.", "visual.layers."),
    (r"^(visual\.layers\.\d+)\.ln_([12])\.", r"\1.ln\2."),
    (r"^(visual\.layers\.\d+\.attn)\.in_proj_", r"\1.qkv."),
    (r"^(visual\.layers\.\d+\.attn)\.out_proj\.", r"\1.proj."),
    (r"^(visual\.layers\.\d+)\.mlp\.c_fc\.", r"\1.ffn.layers.0.0."),
    (r"^(visual\.layers\.\d+)\.mlp\.c_proj\.", r"\1.ffn.layers.1."),
)


# Both norms, the joint layer of query, key and value, the output projection, and the MLP.
_IMAGE_BLOCK = ("ln1.", "ln2.", "attn.qkv.", "attn.proj.", "ffn.layers.0.0.", "ffn.layers.1.")
_TEXT_BLOCK = ("ln_1.", "ln_2.", "attn.in_proj_", "attn.out_proj.", "mlp.c_fc.", "mlp.c_proj.")


@dataclass(frozen=True)
class Architecture:
    """Sizes of a CLIP, read from its tensors. They do not show the number of heads, which is width
    / 64 in OpenAI's models.
    """

    image_width: int
    image_layers: int
    patch: int
    image_size: int
    text_width: int
    text_layers: int
    context: int
    vocab_size: int
    joint_width: int

    def __str__(self) -> str:
        return (
            f"image tower of width {self.image_width}, {self.image_layers} layers, patch"
            f" {self.patch}, image size {self.image_size}; text tower of width {self.text_width},"
            f" {self.text_layers} layers, context {self.context}, vocabulary {self.vocab_size};"
            f" joint width {self.joint_width}; {self.parameters():,} parameters"
        )

    def parameters(self) -> int:
        return sum(math.prod(shape) for shape in self.shapes().values())

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor, by MMPreTrain's names."""
        image, text, joint = self.image_width, self.text_width, self.joint_width
        tokens = 1 + (self.image_size // self.patch) ** 2
        shapes: dict[str, tuple[int, ...]] = {
            "visual.cls_token": (1, 1, image),
            "visual.pos_embed": (1, tokens, image),
            "visual.patch_embed.projection.weight": (image, 3, self.patch, self.patch),
            "visual_proj.proj": (image, joint),
            "token_embedding.weight": (self.vocab_size, text),
            "positional_embedding": (self.context, text),
            "text_projection": (text, joint),
            "logit_scale": (),
        }
        layers = {"visual.pre_norm.": (image,), "visual.ln1.": (image,), "ln_final.": (text,)}
        for blocks, count, width, names in (
            ("visual.layers", self.image_layers, image, _IMAGE_BLOCK),
            ("transformer.resblocks", self.text_layers, text, _TEXT_BLOCK),
        ):
            sizes = ((width,), (width,), (3 * width, width), (width, width))
            sizes += ((4 * width, width), (width, 4 * width))
            for i in range(count):
                layers |= {f"{blocks}.{i}.{x}": y for x, y in zip(names, sizes, strict=True)}
        for layer, size in layers.items():
            shapes |= {f"{layer}weight": size, f"{layer}bias": size[:1]}
        return shapes


# ---------------------------------------------------------------------- files


def convert_file(source: str, out: str, activation: str | None = None) -> str:
    """Read CLIP weights of any known layout and write them under MMPreTrain's names.

    Args:
        source: A file (.pt, .pth, .bin, .safetensors) or a folder as on Hugging Face.
        out: File to write, .safetensors or .pth; written atomically.
        activation: Activation of the MLPs, ``quick_gelu`` or ``gelu``, if neither an archive's code
            nor a config beside the weights names it.

    Returns:
        One line: the layout that was found, and the sizes.

    Raises:
        InputError: Naming what cannot be read, is unknown, missing or unexpected, or weights that
            need another activation than QuickGELU.
    """
    if not out.endswith((".safetensors", ".pth")):
        raise InputError(f"the file to write must end in .safetensors or .pth, got {out}")
    state, container = _read(source)
    _check_activation(Path(source), activation)
    layout, converted = convert_state(state, source)
    architecture = _architecture(converted, source)
    if out.endswith(".safetensors"):
        data = safetensors.torch.save(converted, metadata={"format": "pt"})
    else:
        buffer = io.BytesIO()
        torch.save({"state_dict": converted}, buffer)
        data = buffer.getvalue()
    write_atomically(out, data)
    heads = _other_heads(Path(source), architecture)
    return f"{layout} ({container}): {architecture}{heads}"


def _read(source: str) -> tuple[dict[str, Any], str]:
    """State dict, and the file it was read from."""
    path = Path(source)
    if path.is_dir():
        file = one_weight_file(path)
        return read_checkpoint(str(file))["state_dict"], f"folder, {file.name}"
    if not path.is_file():
        raise CheckpointError(f"file or folder not found: {source}")
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if is_torchscript(archive):
                return read_torchscript(archive, source), "TorchScript archive"
    return dict(read_checkpoint(source)["state_dict"]), "state dict"


def _check_activation(source: Path, given: str | None) -> None:
    """Refuse weights that were not trained with QuickGELU, or whose activation is not known. The
    tensors do not show it, and with another activation every feature would be wrong.
    """
    where, found = _declared_activations(source)
    if not found and given is None:
        raise InputError(
            f"{source} does not name the activation of its model: pass --activation quick_gelu for"
            " OpenAI's weights and for open_clip models with quickgelu in their name; most other"
            " open_clip models use GELU"
        )
    wrong = sorted({*found, *([given] if given else [])} - {"quick_gelu"})
    if wrong:
        raise InputError(
            f"the activation of {where or source} is {', '.join(wrong)}; MMPreTrain's text tower"
            " always uses QuickGELU, so its features would be wrong: use weights trained with"
            " QuickGELU, such as OpenAI's"
        )


def _declared_activations(source: Path) -> tuple[Path | None, set[str]]:
    """The activations named in an archive's code or a config next to the weights, and that file."""
    if source.is_file() and zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as archive:
            for item in archive.infolist():
                if item.filename.endswith(".py") and item.file_size <= _CODE_BYTES:
                    code = archive.read(item)
                    for word, name in ((b"sigmoid(", "quick_gelu"), (b"gelu(", "gelu")):
                        if word in code:  # QuickGELU is x sigmoid(1.702 x)
                            return source, {name}
    for config, content in _configs_beside(source):
        if config.name == "open_clip_config.json":
            return config, {"quick_gelu" if content.get("quick_gelu", False) else "gelu"}
        # transformers leaves out default values
        towers = [content.get(f"{tower}_config") or {} for tower in ("vision", "text")]
        return config, {str(tower.get("hidden_act", "quick_gelu")) for tower in towers}
    return None, set()


def _configs_beside(source: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Configs of a CLIP from transformers or open_clip in the folder of the weights."""
    folder = source if source.is_dir() else source.parent
    for name in ("config.json", "open_clip_config.json"):
        config = folder / name
        if not config.is_file():
            continue
        content = read_json(config)
        if not isinstance(content, dict):
            raise InputError(f"{config} is not a model's config")
        if name == "open_clip_config.json":
            content = content.get("model_cfg", content)
        parts = [content.get(f"{tower}_{end}") for tower, end in product(_TOWERS, _ENDS)]
        if any(part is not None and not isinstance(part, dict) for part in parts):
            raise InputError(f"{config} is not a model's config")
        is_clip = any(parts) or str(content.get("model_type")).startswith("clip")
        if is_clip or name == "open_clip_config.json":
            yield config, content


_TOWERS, _ENDS = ("vision", "text"), ("config", "cfg")


def _other_heads(source: Path, architecture: Architecture) -> str:
    """A note if a config next to the weights has heads whose width is not 64."""
    widths = dict(vision=architecture.image_width, text=architecture.text_width)
    needed: dict[str, int] = {}
    for _, content in _configs_beside(source):
        for tower, width in widths.items():
            part = content.get(f"{tower}_config") or content.get(f"{tower}_cfg") or {}
            heads = part.get("num_attention_heads") or part.get("heads")
            if not heads and part.get("head_width"):
                heads = width // part["head_width"]
            if heads and heads != width // 64:
                name = "visual.arch.num_heads" if tower == "vision" else "text_backbone.heads"
                needed.setdefault(name, heads)  # the first config counts
    if not needed:
        return ""
    settings = ", ".join(f"{name}={heads}" for name, heads in needed.items())
    return f"; not heads of width 64 as OpenAI's: the model needs {settings}"


# ---------------------------------------------------------------------- names


def convert_state(state: Mapping[str, Tensor], origin: str) -> tuple[str, dict[str, Tensor]]:
    """Rename a state dict of any known layout.

    Args:
        state: Tensors by the names of their layout.
        origin: Name of the source for messages.

    Returns:
        The layout's name, and float32 tensors by MMPreTrain's names: exactly those of a CLIP.

    Raises:
        InputError: Naming the unknown layout, or the tensors that are missing, unexpected or of a
            wrong shape.
    """
    state = {
        name.removeprefix("module."): value
        for name, value in state.items()
        if name.rpartition(".")[2] not in _DROPPED
    }
    others = [
        name
        for name, value in state.items()
        if not isinstance(value, Tensor) or not value.is_floating_point()
    ]
    if others:
        raise CheckpointError(
            f"{origin} is not a state dict of floating-point tensors: {listed(others)}"
        )
    layout = _layout(state, origin)
    if layout == "Hugging Face's layout":
        state = joined(state, r"(?<=self_attn\.)([qkv])_proj", "in_proj", origin)
        state = renamed(state, _HUGGING_FACE_TO_OPENAI)
        for name in ("visual.proj", "text_projection"):  # linear layers in that layout
            if name in state and state[name].dim() == 2:
                state[name] = state[name].t()
    elif layout == "open_clip's layout":
        state = {name.removeprefix("text."): value for name, value in state.items()}
    state = renamed(state, _OPENAI_TO_MMPRETRAIN)
    # Copies, because safetensors cannot write tensors that share memory.
    converted = {
        name: _in_shape(name, value.detach()).to(torch.float32, copy=True).contiguous()
        for name, value in state.items()
    }
    _check(converted, _architecture(converted, origin), origin)
    if damaged := not_finite(converted):
        raise CheckpointError(
            f"{origin} is damaged: it has values that are not finite in {listed(damaged)}"
        )
    return layout, converted


def _in_shape(name: str, value: Tensor) -> Tensor:
    """A tensor in MMPreTrain's shape, with a batch dimension or a scalar logit scale."""
    if name == "visual.cls_token":
        return value.reshape(1, 1, -1)
    if name == "visual.pos_embed":
        return value.unsqueeze(0)
    return value.reshape(()) if name == "logit_scale" and value.numel() == 1 else value


def _layout(state: Mapping[str, Tensor], origin: str) -> str:
    def any_starts(*prefixes: str) -> bool:
        return any(name.startswith(prefixes) for name in state)

    if any_starts("visual.layer1.", "visual.attnpool."):
        raise CheckpointError(
            f"{origin} has a ResNet image tower (RN50 and the like); only CLIP models with a ViT"
            " can be converted, such as ViT-B/16"
        )
    if any_starts("visual.patch_embed.projection."):
        raise CheckpointError(f"{origin} already has MMPreTrain's names: use it as it is")
    if any_starts("vision_model.", "text_model."):
        return "Hugging Face's layout"
    if any_starts("text."):
        return "open_clip's layout"
    if any_starts("visual.conv1."):
        return "OpenAI's layout"
    raise CheckpointError(
        f"{origin} is not a CLIP with a ViT in a known layout ({_READ}); its tensors are"
        f" {listed(list(state)) or 'none'}"
    )


def _architecture(state: Mapping[str, Tensor], origin: str) -> Architecture:
    def sizes(name: str, dimensions: int) -> tuple[int, ...]:
        if name not in state:
            raise CheckpointError(f"{origin} does not fit CLIP with a ViT: it has no {name}")
        shape = tuple(state[name].shape)
        if len(shape) != dimensions:
            raise CheckpointError(
                f"{origin} does not fit CLIP: {name} has shape {shape}, expected {dimensions}"
                " dimensions"
            )
        return shape

    def layers(prefix: str) -> int:
        found = (re.match(re.escape(prefix) + r"\.(\d+)\.", name) for name in state)
        return len({match[1] for match in found if match})  # a gap is reported as a missing layer

    image_width, _, patch, _ = sizes("visual.patch_embed.projection.weight", 4)
    patches = sizes("visual.pos_embed", 3)[1] - 1
    side = math.isqrt(max(patches, 0))
    if side < 1 or side * side != patches:
        raise CheckpointError(
            f"{origin} does not fit CLIP: {patches} image positions after the class token are not"
            " a square of patches"
        )
    vocab_size, text_width = sizes("token_embedding.weight", 2)
    return Architecture(
        image_width=image_width,
        image_layers=layers("visual.layers"),
        patch=patch,
        image_size=side * patch,
        text_width=text_width,
        text_layers=layers("transformer.resblocks"),
        context=sizes("positional_embedding", 2)[0],
        vocab_size=vocab_size,
        joint_width=sizes("visual_proj.proj", 2)[1],
    )


def _check(state: Mapping[str, Tensor], architecture: Architecture, origin: str) -> None:
    expected = architecture.shapes()
    missing = [name for name in expected if name not in state]
    unknown = [name for name in state if name not in expected]
    wrong = [
        f"{name} {tuple(state[name].shape)} instead of {shape}"
        for name, shape in expected.items()
        if name in state and state[name].shape != shape
    ]
    problems = [
        f"{what} {listed(names)}"
        for what, names in (
            ("it lacks", missing),
            ("it has, besides,", unknown),
            ("of another shape are", wrong),
        )
        if names
    ]
    if problems:
        raise CheckpointError(
            f"{origin} does not fit CLIP with a ViT (MMPreTrain's names): {'; '.join(problems)}"
        )
