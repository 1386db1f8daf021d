"""Pascal VOC XML to COCO JSON: ``python tools/dataset_converters/voc2coco.py SRC --out DIR``."""

import sys
from collections.abc import Sequence

from mmsdpt.convert_tool import converter_parser, run_converter


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the conversion. Returns 0, or 1 if ``--strict`` met problems; bad arguments exit with
    2.
    """
    parser = converter_parser(
        "voc2coco.py",
        "Convert Pascal VOC XML files to COCO JSON.",
        "folder with the XML files and images, wherever in it they lie",
        missing="skip",
    )
    parser.add_argument(
        "--difficult",
        choices=("keep", "ignore"),
        default="keep",
        help=(
            "boxes marked difficult: ordinary ones with difficult=1 (keep), or also iscrowd=1"
            " (ignore)"
        ),
    )
    parser.add_argument(
        "--zero-based", action="store_true", help="the boxes count pixels from 0: subtract nothing"
    )
    return run_converter(parser, argv, "convert_voc", ("difficult", "zero_based"))


if __name__ == "__main__":
    sys.exit(main())
