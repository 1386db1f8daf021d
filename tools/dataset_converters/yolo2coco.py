"""YOLO labels to COCO JSON: ``python tools/dataset_converters/yolo2coco.py SRC --out DIR``."""

import sys
from collections.abc import Sequence

from mmsdpt.convert_tool import converter_parser, run_converter


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the conversion. Returns 0, or 1 if ``--strict`` met problems; bad arguments exit with
    2.
    """
    parser = converter_parser(
        "yolo2coco.py",
        "Convert a YOLO dataset to COCO JSON.",
        "the dataset's data.yaml, or its folder: with data.yaml (Ultralytics, Roboflow), obj.data"
        " (CVAT, darknet) or classes.txt (Label Studio, labelImg)",
        missing="keep",
    )
    parser.add_argument(
        "--root", help="folder that holds the whole dataset (default: the folder of data.yaml)"
    )
    return run_converter(parser, argv, "convert_yolo", ("root",))


if __name__ == "__main__":
    sys.exit(main())
