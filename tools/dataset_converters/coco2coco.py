"""Clean up COCO exports of other tools: ``python tools/dataset_converters/coco2coco.py SRC
--out DIR``. Can rename or select classes and change the split.
"""

import sys
from collections.abc import Sequence

from mmsdpt.convert_tool import converter_parser, run_converter


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the conversion. Returns 0, or 1 if ``--strict`` met problems; bad arguments exit with
    2.
    """
    parser = converter_parser(
        "coco2coco.py",
        "Clean up a COCO export: rename, select or merge classes, draw splits, leave out missing or"
        " broken entries.",
        "an annotation file, or the folder that holds the files and images",
        missing="keep",
    )
    parser.add_argument(
        "--root", help="folder that holds the source and all images (default: the source folder)"
    )
    return run_converter(parser, argv, "convert_coco", ("root",))


if __name__ == "__main__":
    sys.exit(main())
