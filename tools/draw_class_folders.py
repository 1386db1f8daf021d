"""Draw two datasets for mini CLIP, with one folder of pictures per class: ``python
tools/draw_class_folders.py data`` writes ``data/drawn_clothes`` and ``data/drawn_things``.

The pictures are the same on every machine. An existing dataset is kept.
"""

from pathlib import Path

from mmsdpt.utils.cli import make_projects_importable, run_tool, tool_parser


def main() -> None:
    parser = tool_parser(__doc__)
    parser.add_argument("folder", type=Path, help="folder to write the datasets to, such as data")
    args = parser.parse_args()
    make_projects_importable()
    from projects.mini_world.class_folders import SETS, draw

    for name in SETS:
        written = draw(name, args.folder)
        print(f"{args.folder / name}: {'written' if written else 'already exists'}")


if __name__ == "__main__":
    run_tool(main)
