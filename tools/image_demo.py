"""Detect objects in new images, or classify them: ``image_demo.py IMAGE|FOLDER TUNER_FILE``.

The tuner file names the model it belongs to; files of version 0.1 need --config. For several slots
write SLOT=FILE for each. Without a file the base model of --config is used. TUNER_FILE may also be
a folder written by save_pretrained, or the id of a model on the Hugging Face hub.
"""

import argparse
from pathlib import Path
from typing import Any

from mmsdpt.utils.atomic import check_writable
from mmsdpt.utils.class_names import chosen_names
from mmsdpt.utils.cli import add_model_arguments, run_tool, tool_parser
from mmsdpt.utils.errors import InputError, printable
from mmsdpt.utils.texts import read_json


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__)
    parser.add_argument("images", help="image, or folder of images")
    parser.add_argument(
        "tuner_files", nargs="*", metavar="[SLOT=]TUNER_FILE", help="tuner file (.safetensors)"
    )
    add_model_arguments(parser)
    parser.add_argument(
        "--classes", help='classes to use instead of the trained ones: "red cell,white cell"'
    )
    parser.add_argument("--template", help='CLIP: sentence such as "a photo of a {}."')
    parser.add_argument(
        "--threshold", type=float, default=0.3, help="GLIP: minimum score; default: %(default)s"
    )
    parser.add_argument(
        "--chunked-size",
        type=int,
        metavar="N",
        help="GLIP: classes per caption, for long class lists",
    )
    parser.add_argument("--top-k", type=int, default=5, help="CLIP: number of classes to show")
    parser.add_argument(
        "--out-dir", default="outputs", help="folder for the pictures; default: %(default)s"
    )
    parser.add_argument("--no-pictures", action="store_true", help="write no pictures")
    parser.add_argument("--json", metavar="FILE", help="write all results as JSON")
    parser.add_argument("--coco-json", metavar="FILE", help="write boxes in COCO's result format")
    parser.add_argument(
        "--annotations", metavar="FILE", help="COCO file to take the ids of --coco-json from"
    )
    parser.add_argument(
        "--tuners-off", action="store_true", help="use the base model, for comparison"
    )
    parser.add_argument("--device", help="cpu, cuda:1, ...; default: a GPU if there is one")
    parser.add_argument(
        "--batch-size", type=int, default=1, help="images at a time; default: %(default)s"
    )
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    if not Path(args.images).exists():
        raise InputError(f"image or folder not found: {args.images}")
    if args.images.endswith((".safetensors", ".pth")):
        raise InputError(
            f"{args.images} is not an image: give the image or folder first, then the tuner file"
        )
    if not args.tuner_files and not args.config:
        raise InputError("give a tuner file, or --config for its base model")
    if args.annotations and not args.coco_json:
        raise InputError("--annotations needs --coco-json")
    names = chosen_names(args.classes)
    if not 0 <= args.threshold <= 1:
        raise InputError(f"--threshold must be between 0 and 1, got {args.threshold:g}")
    if args.chunked_size is not None and args.chunked_size < 1:
        raise InputError(f"--chunked-size must be a positive integer, got {args.chunked_size}")
    if args.top_k < 1:
        raise InputError(f"--top-k must be a positive integer, got {args.top_k}")
    for option, file in (("--json", args.json), ("--coco-json", args.coco_json)):
        if file and not file.endswith(".json"):
            raise InputError(f"{option} must be a .json file, got {file}")
        if file:
            check_writable(file)
    if args.annotations:
        read_json(args.annotations)
    # Imported here so that --help and the check for a missing image are fast.
    from mmsdpt.apis import load_model
    from mmsdpt.apis.results import CocoIds, Detections, to_json
    from mmsdpt.datasets.classification.images import find_images

    model = load_model(
        args.tuner_files,
        config=args.config,
        base=args.base,
        text_encoder=args.text_encoder,
        device=args.device,
        batch_size=args.batch_size,
    )
    if args.tuners_off:
        model.enable(on=False)
    detects = type(model).__name__ == "Detector"
    if args.coco_json and not detects:
        raise InputError("--coco-json is for detectors, but this model is a classifier")
    if args.template and detects:
        raise InputError("--template is for classifiers, but this model is a detector")
    if args.chunked_size is not None and not detects:
        raise InputError("--chunked-size is for detectors, but this model is a classifier")
    options: dict[str, Any] = dict(template=args.template)
    if detects:
        options = dict(threshold=args.threshold, chunked_size=args.chunked_size)
    if not args.no_pictures:
        check_writable(Path(args.out_dir) / "picture.png")
    images = args.images if Path(args.images).is_dir() else [args.images]
    if args.annotations:
        ids = CocoIds(args.annotations)
        ids.of_classes(names or model.classes)
        for name in find_images(Path(images)) if isinstance(images, str) else [""]:
            ids.of_image(str(Path(args.images) / name))
    results = model(images, classes=names, **options)
    for result in results:
        found = result if isinstance(result, Detections) else result.top(args.top_k)
        listed = ", ".join(f"{each[0]} {each[1]:.2f}" for each in found)
        print(f"{printable(result.path, 4096)}: {listed or 'nothing found'}")
    if args.json:
        results.to_json(args.json)
        print(f"results: {args.json}")
    if args.coco_json:
        to_json(results.to_coco(args.annotations), args.coco_json)
        print(f"results in COCO's format: {args.coco_json}")
    if not args.no_pictures:
        results.save(args.out_dir)
        print(f"{len(results)} picture{'s' * (len(results) != 1)} in {args.out_dir}")
    if results.skipped:
        print(f"skipped {len(results.skipped)} of {len(results) + len(results.skipped)} images")
    return 0 if len(results) else 1


if __name__ == "__main__":
    run_tool(main)
