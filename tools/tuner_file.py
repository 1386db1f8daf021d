"""Inspect a tuner file, or check that it fits a config.

``python tools/tuner_file.py inspect FILE`` prints the file's header.
``python tools/tuner_file.py check FILE CONFIG`` checks that method, settings, tensors and base
weights match the config's model; if not, it prints the difference and exits with code 2.
"""

import argparse
import json
import math

from rich.console import Console
from rich.table import Table

from mmsdpt.utils.cli import Options, load_config, run_tool, tool_parser
from mmsdpt.utils.errors import InputError, printable

MAX_ROWS, MAX_NAME, MAX_DEPTH = 200, 100, 3


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = tool_parser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    inspect = commands.add_parser("inspect", help="print the file's header")
    inspect.add_argument("file", help="tuner file (.safetensors)")
    inspect.add_argument("--json", action="store_true", help="print the whole header as JSON")
    inspect.set_defaults(run=inspect_file)
    check = commands.add_parser("check", help="check that the file fits a config's model")
    check.add_argument("file", help="tuner file (.safetensors)")
    check.add_argument("config", help="config with a tuner")
    check.add_argument(
        "--slot", help="slot of the config's model; only needed if there are several"
    )
    check.add_argument(
        "--skip-base",
        action="store_true",
        help="do not compare base weights, which then need not exist",
    )
    check.add_argument(
        "--cfg-options", nargs="+", action=Options, help="override settings of the config"
    )
    check.set_defaults(run=check_file)
    return parser.parse_args(argv)


def inspect_file(args: argparse.Namespace) -> None:
    """Print the header of ``args.file``."""
    from safetensors import safe_open

    from mmsdpt.tuners.files import read_tuner_header

    header = read_tuner_header(args.file)
    if args.json:
        print(json.dumps(header, indent=1, sort_keys=True))
        return
    table = Table(title=printable(args.file), title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    first = ("method", "config", "slot", "shapes", "host", "base", "versions", "extra", "format")
    for name in (*(n for n in first if n in header), *sorted(header.keys() - {*first})):
        _add_rows(table, name, header[name])
    table.add_section()
    with safe_open(args.file, framework="pt") as file:
        shapes = [file.get_slice(name).get_shape() for name in file.keys()]
    table.add_row("values", f"{sum(math.prod(shape) for shape in shapes):,}")
    Console(highlight=False, markup=False).print(table)


def _add_rows(table: Table, name: str, value: object) -> None:
    """Rows of one entry. A file may hold anything, so the number and length of rows are limited."""
    if table.row_count > MAX_ROWS:
        return
    name = printable(name, MAX_NAME)
    if table.row_count == MAX_ROWS:
        table.add_row("...", "more with --json")
    elif name == "model.config" or name.count(".") >= MAX_DEPTH:
        table.add_row(name, printable(json.dumps(value)))
    elif isinstance(value, dict) and value:
        table.add_section()
        for key, item in value.items():
            _add_rows(table, f"{name}.{key}", item)
        table.add_section()
    elif isinstance(value, list):
        separator = " x " if name.startswith("shapes.") else ", "
        shown = separator.join(str(item)[:MAX_NAME] for item in value[:MAX_ROWS])
        table.add_row(name, printable(shown, 1000) or "none")
    else:
        table.add_row(name, "none" if value in (None, "", {}) else printable(value))


def check_file(args: argparse.Namespace) -> None:
    """Load ``args.file`` into the model of ``args.config``.

    Raises:
        InputError: naming the difference.
    """
    from mmengine.registry import init_default_scope

    from mmsdpt.hosts.base import build_on_base, resolve_slots
    from mmsdpt.registry import MODELS
    from mmsdpt.tuners.files import load_tuner, read_tuner_header
    from mmsdpt.utils.base_weights import resolve_checkpoint

    header = read_tuner_header(args.file)
    cfg = load_config(args)
    slots = list(resolve_slots(cfg.model.get("tuner"), cfg.model.get("tuners")))
    slot = args.slot or (slots[0] if len(slots) == 1 else None)
    if not slots:
        raise InputError(f"{args.config} has no tuner: set model.tuner or model.tuners")
    if slot not in slots:
        found = f"it has no slot {slot!r}" if slot else "it has several slots"
        raise InputError(f"{args.config}: {found}; set --slot to one of {', '.join(slots)}")
    init_default_scope(cfg.get("default_scope", "mmdet"))
    if args.skip_base:
        model, base = MODELS.build(cfg.model), "base weights not compared"
    else:
        if not cfg.get("load_from"):
            raise InputError(
                f"{args.config} names no base weights to compare with: pass --cfg-options"
                " load_from=PATH, or --skip-base"
            )
        model = build_on_base(cfg.model, resolve_checkpoint(cfg.load_from))
        base = f"on {cfg.load_from}"
    load_tuner(model, args.file, slot, check_base=not args.skip_base)
    print(f"{args.file} fits {args.config}: {header['method']} in slot {slot!r}, {base}")


def main() -> None:
    args = parse_args()
    args.run(args)


if __name__ == "__main__":
    run_tool(main)
