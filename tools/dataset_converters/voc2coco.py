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
        "folder with the XML files and images, which may be in subfolders",
        missing="skip",
    )
    parser.add_argument(
        "--difficult",
        choices=("keep", "ignore"),
        default="keep",
        help=(
            "boxes marked difficult: keep them with difficult=1 (keep), or also set iscrowd=1"
            " (ignore)"
        ),
    )
    parser.add_argument(
        "--zero-based", action="store_true", help="box coordinates start at 0: do not subtract 1"
    )
    return run_converter(parser, argv, "convert_voc", ("difficult", "zero_based"))


if __name__ == "__main__":
    sys.exit(main())
