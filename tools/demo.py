"""See SDPT improve a detector, in a few minutes on a CPU: ``python tools/demo.py``.

Mini GLIP finds the classes of a task that it was not trained on (zero-shot), SDPT trains a few
tokens on ten images per class, the test is repeated, and once more with the tokens switched off. A
table and a picture show the result; everything is written to work_dirs/demo.
"""

import argparse
from pathlib import Path

from mmsdpt.utils.cli import Options, make_projects_importable, run_tool

CONFIGS = Path(__file__).parents[1] / "configs" / "mini"
_PREFIX = "sdpt_mini_"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    tasks = sorted(path.stem.removeprefix(_PREFIX) for path in CONFIGS.glob(f"{_PREFIX}*.py"))
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--task", default="thermal", choices=tasks, help="default: %(default)s")
    what.add_argument("--config", help="another config with a tuner and few-shot training data")
    parser.add_argument("--shots", type=int, default=10, help="training images per class")
    seeds = parser.add_mutually_exclusive_group()
    seeds.add_argument(
        "--seed",
        type=int,
        default=0,
        help="seed of the shots, the initial tokens and the order of the images",
    )
    seeds.add_argument(
        "--seeds", type=int, nargs="+", help="one run for each seed; mean and standard deviation"
    )
    parser.add_argument("--images", type=int, default=3, help="test images in the picture")
    parser.add_argument("--out", default="work_dirs/demo", help="output folder")
    parser.add_argument("--data-root", help="folder of the task's images, drawn if missing")
    parser.add_argument(
        "--cfg-options", nargs="+", action=Options, help="override settings of the config"
    )
    args = parser.parse_args(argv)
    args.config = args.config or str(CONFIGS / f"{_PREFIX}{args.task}.py")
    return args


def main() -> int:
    args = parse_args()
    make_projects_importable()
    from projects.mini_world.demo import run_demo

    return run_demo(args)


if __name__ == "__main__":
    run_tool(main)
