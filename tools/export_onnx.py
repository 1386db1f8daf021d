"""Export a tuned model to ONNX: ``export_onnx.py TUNER_FILE MODEL.onnx``.

The classes are fixed: their text features are constants in the file. The input is an image, the
output boxes or probabilities. docs/use.md shows how to run the file without PyTorch.
"""

import argparse

from mmsdpt.utils.atomic import check_writable
from mmsdpt.utils.class_names import chosen_names
from mmsdpt.utils.cli import add_model_arguments, run_tool, tool_parser
from mmsdpt.utils.errors import InputError


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__)
    parser.add_argument(
        "tuner_files",
        nargs="*",
        metavar="[SLOT=]TUNER_FILE",
        help="tuner file, or the folder of a shared model; default: the base model of --config",
    )
    parser.add_argument("out", metavar="MODEL.onnx", help="the file to write")
    add_model_arguments(parser)
    parser.add_argument(
        "--classes", help='classes to use instead of the trained ones: "red cell,white cell"'
    )
    parser.add_argument("--template", help='CLIP: sentence such as "a photo of a {}."')
    parser.add_argument(
        "--check",
        metavar="FOLDER",
        help="compare the file with the model on the images of a folder",
    )
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    if not args.out.endswith(".onnx"):
        raise InputError(f"the last argument must be a file name ending in .onnx, got {args.out}")
    classes = chosen_names(args.classes)
    if not args.tuner_files and not args.config:
        raise InputError("give a tuner file, or --config for its base model")
    # Imported here so that --help is fast.
    from mmsdpt.apis import load_model
    from mmsdpt.datasets.classification.images import images_to_predict
    from mmsdpt.export import compare, export_onnx

    names = images_to_predict(args.check) if args.check else []
    images = [f"{args.check}/{name}" for name in names]
    model = load_model(
        args.tuner_files,
        config=args.config,
        base=args.base,
        text_encoder=args.text_encoder,
        device="cpu",
    )
    check_writable(args.out)
    path = export_onnx(model, args.out, classes, args.template)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    if images:
        print(compare(model, path, images, args.template))
    return 0


if __name__ == "__main__":
    run_tool(main)
