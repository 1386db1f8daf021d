"""Export the model of a pre-training run as base weights: ``export_base.py RUN.pth
OUT.safetensors``.

The file holds only tensors and can be used in ``load_from``. Floating-point tensors are stored in
half precision unless --dtype says otherwise, and are converted to the model's precision on loading.
"""

import argparse

from mmsdpt.utils.atomic import write_atomically
from mmsdpt.utils.cli import run_tool, tool_parser
from mmsdpt.utils.errors import InputError


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__)
    parser.add_argument("checkpoint", help="checkpoint of a run that trained without tuners")
    parser.add_argument("out", help="file to write, .safetensors")
    parser.add_argument("--dtype", choices=["float16", "float32"], default="float16")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if not args.out.endswith(".safetensors"):
        raise InputError(f"the file to write must end in .safetensors, got {args.out}")
    import torch
    from safetensors.torch import save

    from mmsdpt.utils.base_weights import CheckpointError, not_finite, read_checkpoint

    state = read_checkpoint(args.checkpoint)["state_dict"]
    if not any(name.startswith(("backbone.", "visual.")) for name in state):  # of GLIP, of CLIP
        raise CheckpointError(
            f"{args.checkpoint} does not hold a whole model: its run trained"
            " a tuner on frozen weights"
        )
    dtype = getattr(torch, args.dtype)
    tensors = {
        name: (value.to(dtype) if value.is_floating_point() else value).contiguous()
        for name, value in state.items()
    }
    if overflow := not_finite(tensors):
        raise CheckpointError(
            f"values of {overflow[0]} do not fit into {args.dtype}: use --dtype float32"
        )
    write_atomically(args.out, save(tensors))
    print(f"{args.out}: {len(tensors)} tensors")


if __name__ == "__main__":
    run_tool(main)
