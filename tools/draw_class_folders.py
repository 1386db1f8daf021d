"""Draw two data sets for mini CLIP, a folder of pictures for each class: ``python
tools/draw_class_folders.py data`` writes ``data/drawn_clothes`` and ``data/drawn_things``.

The pictures are the same on every machine; a set that is there is kept.
"""

from pathlib import Path

from mmsdpt.utils.cli import make_projects_importable, run_tool, tool_parser


def main() -> None:
    parser = tool_parser(__doc__)
    parser.add_argument("folder", type=Path, help="where the sets are to lie, such as data")
    args = parser.parse_args()
    make_projects_importable()
    from projects.mini_world.class_folders import SETS, draw

    for name in SETS:
        written = draw(name, args.folder)
        print(f"{args.folder / name}: {'written' if written else 'there already'}")


if __name__ == "__main__":
    run_tool(main)
