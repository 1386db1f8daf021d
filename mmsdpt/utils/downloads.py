"""Download locations of public weights and data, and the paths where configs expect them. Used by
runs and by the doctor, so it imports no package that may be missing.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from .errors import CheckpointError

CHECKPOINTS = Path("checkpoints")  # relative to the working directory
BERT = "bert-base-uncased"
PACKAGE_SCHEME = "mmsdpt://"
_ASSETS = {
    name: f"assets/{name}/{name}.safetensors"
    for name in ("mini_clip", "mini_glip", "mini_grounding_dino")
}

_GLIP = "https://download.openmmlab.com/mmdetection/v3.0/glip/"
_DINO = "https://download.openmmlab.com/mmdetection/v3.0/"
_CLIP = "https://openaipublic.azureedge.net/clip/models/"
GLIP_CHECKPOINTS = {"GLIP-L": "glip_l_mmdet-abfe026b.pth", "GLIP-T": "glip_tiny_mmdet-c24ce662.pth"}
# Their paths on the server.
_DINO_PATHS = {
    "Grounding DINO Swin-T": "grounding_dino/groundingdino_swint_ogc_mmdet-822d7e9d.pth",
    "MM-Grounding-DINO Swin-T": (
        "mm_grounding_dino/grounding_dino_swin-t_pretrain_obj365_goldg_grit9m_v3det/"
        "grounding_dino_swin-t_pretrain_obj365_goldg_grit9m_v3det_20231204_095047-b448804b.pth"
    ),
    "MM-Grounding-DINO Swin-L": (
        "mm_grounding_dino/grounding_dino_swin-l_pretrain_all/"
        "grounding_dino_swin-l_pretrain_all-56d69e78.pth"
    ),
}
GROUNDING_DINO_CHECKPOINTS = {name: Path(path).name for name, path in _DINO_PATHS.items()}
CLIP_CHECKPOINTS = {
    "CLIP ViT-B/16": "clip_vit_b16.safetensors",
    "CLIP ViT-B/32": "clip_vit_b32.safetensors",
    "CLIP ViT-L/14": "clip_vit_l14.safetensors",
}
_SOURCES = {
    "clip_vit_b16.safetensors": (
        "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f/ViT-B-16.pt"
    ),
    "clip_vit_b32.safetensors": (
        "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af/ViT-B-32.pt"
    ),
    "clip_vit_l14.safetensors": (
        "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836/ViT-L-14.pt"
    ),
}


def how_to_get(path: str) -> str | None:
    """How to get the weights that configs expect at ``path``; None if they are unknown."""
    file = Path(path).name
    if file in GLIP_CHECKPOINTS.values():
        return f"download {_GLIP}{file} to it"
    for place in _DINO_PATHS.values():
        if file == Path(place).name:
            return f"download {_DINO}{place} to it"
    if file in _SOURCES:
        return (
            f"download {_CLIP}{_SOURCES[file]} and run python"
            f" tools/model_converters/clip2mmsdpt.py {Path(_SOURCES[file]).name} {path}"
        )
    return None


def how_to_get_bert(name: str = BERT) -> str:
    """How to get the language model ``name`` from the Hugging Face hub."""
    return (
        f"put config.json and vocab.txt from https://huggingface.co/{name} into"
        f" {(CHECKPOINTS / name).resolve()} (also model.safetensors, if the base weights have"
        " no BERT)"
    )


PUT_IT_THERE = "put the data there, or set another folder with --data-root"
# By the prefix of an annotation file's name.
_DATA = {
    "instances_train2017": "COCO 2017 from https://cocodataset.org/#download",
    "instances_val2017": "COCO 2017 from https://cocodataset.org/#download",
    "lvis_v1": "LVIS v1 from https://www.lvisdataset.org/dataset, with the images of COCO 2017",
}
# By a folder in the path.
_COLLECTIONS = {
    "odinw": "ODinW from https://huggingface.co/GLIPModel/GLIP/tree/main/odinw_35",
    "rf100-vl": "RF100-VL with the package rf100vl (https://github.com/roboflow/rf100-vl)",
    "rf20-vl": "RF20-VL with the package rf100vl (https://github.com/roboflow/rf100-vl)",
}


def how_to_get_data(path: str) -> str:
    """How to get the annotation file or the image folder ``path``."""
    name = Path(path).name
    source = next((text for start, text in _DATA.items() if name.startswith(start)), None)
    for folder, text in _COLLECTIONS.items() if source is None else ():
        if folder in Path(path).parts:
            source = text
    advice = f"download {source} and " if source else ""
    return advice + PUT_IT_THERE


def resolve_checkpoint(name: str) -> str:
    """A local path or URL for ``name``; ``mmsdpt://mini_glip`` names the weights in the package.

    Raises:
        CheckpointError: if there is no such file, with where to get it if known.
    """
    if not isinstance(name, str):
        raise CheckpointError(f"load_from must be the path of a file, got {name!r}")
    if name.startswith(PACKAGE_SCHEME):
        asset = name[len(PACKAGE_SCHEME) :]
        if asset not in _ASSETS:
            raise CheckpointError(
                f"{name} is not one of the package's weights: {', '.join(sorted(_ASSETS))}"
            )
        name = str(files("mmsdpt") / _ASSETS[asset])
    if name.startswith(("http://", "https://")):
        return name
    if not Path(name).is_file():
        advice = how_to_get(name)
        raise CheckpointError(
            f"checkpoint not found: {name}; "
            + (f"{advice}, or " if advice else "")
            + "set another file with --cfg-options load_from=PATH"
        )
    return name
