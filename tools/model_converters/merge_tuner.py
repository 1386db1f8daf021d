"""Merge tuner files into the base weights, as one checkpoint of the toolbox: ``merge_tuner.py
TUNER_FILE OUT``, or ``merge_tuner.py SLOT=FILE ... OUT`` for a stack.

The checkpoint needs neither mmsdpt nor a tuner: MMDetection's GLIP or MMPreTrain's CLIP loads it.
Only methods that change the host's weights can be merged: LoRA, DoRA, SSF, CLIP-LoRA, BitFit, full
fine-tuning and, on GLIP, linear probing. The others act on the host's activations.
"""

import argparse
import io

from mmsdpt.utils.cli import add_model_arguments, name_and_path, run_tool, tool_parser
from mmsdpt.utils.errors import InputError


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__)
    parser.add_argument(
        "tuner_files", nargs="+", metavar="[SLOT=]TUNER_FILE", help="tuner file (.safetensors)"
    )
    parser.add_argument("out", help="file to write, .pth or .safetensors")
    add_model_arguments(parser)
    return parser.parse_args()


def refuse_tuner_file(out: str) -> None:
    """Refuse to write over a tuner file, which the last argument is if OUT was forgotten."""
    from mmsdpt.tuners.files import TunerFileError, read_tuner_header

    _, path = name_and_path(out)
    try:
        read_tuner_header(path)
    except TunerFileError:
        return
    raise InputError(
        f"{path} is a tuner file, and the last argument must be the file to write: add its name"
    )


def main() -> None:
    args = parse_args()
    if not args.out.endswith((".pth", ".safetensors")):
        raise InputError(f"the file to write must end in .pth or .safetensors, got {args.out}")
    import torch
    from safetensors.torch import save

    from mmsdpt.apis import load_model
    from mmsdpt.utils.atomic import write_atomically

    refuse_tuner_file(args.out)
    loaded = load_model(
        args.tuner_files,
        config=args.config,
        base=args.base,
        text_encoder=args.text_encoder,
        device="cpu",
    )
    merged = ", ".join(type(tuner).__name__ for tuner in loaded.model.tuners.values())
    try:
        weights = loaded.model.merged_weights()
    except ValueError as error:
        raise InputError(str(error)) from None
    state = {name: value.contiguous() for name, value in weights.items()}
    if args.out.endswith(".safetensors"):
        content = save(state)
    else:
        buffer = io.BytesIO()
        meta = dict(dataset_meta=dict(classes=loaded.classes))  # where init_detector finds them
        torch.save(dict(state_dict=state, meta=meta), buffer)
        content = buffer.getvalue()
    write_atomically(args.out, content)
    print(f"{args.out}: the base weights with {merged}")


if __name__ == "__main__":
    run_tool(main)
