"""Where public weights are to be had. Imports no other package: the doctor uses it, too."""

from __future__ import annotations

from pathlib import Path

_GLIP = "https://download.openmmlab.com/mmdetection/v3.0/glip/"
_CLIP = "https://openaipublic.azureedge.net/clip/models/"
GLIP_CHECKPOINTS = {"GLIP-L": "glip_l_mmdet-abfe026b.pth", "GLIP-T": "glip_tiny_mmdet-c24ce662.pth"}
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
    """What to do to have the weights that configs expect in the file ``path``; None for files of
    another name.
    """
    file = Path(path).name
    if file in GLIP_CHECKPOINTS.values():
        return f"download {_GLIP}{file} to it"
    if file in _SOURCES:
        return (
            f"download {_CLIP}{_SOURCES[file]} and run python"
            f" tools/model_converters/clip2mmsdpt.py {Path(_SOURCES[file]).name} {path}"
        )
    return None
