"""List or clear a folder of cached features (``feature_cache.folder`` of a config):
``python tools/feature_cache.py list FOLDER``, ``python tools/feature_cache.py clear FOLDER``.
"""

import argparse
import time

from mmsdpt.utils.cli import run_tool


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="list the cached features and their size")
    clearing = commands.add_parser("clear", help="remove features; later runs compute them again")
    clearing.add_argument(
        "--unused-days",
        type=float,
        default=0.0,
        help="remove only features unused for this many days",
    )
    for command in (listing, clearing):
        command.add_argument("folder", help="folder of cached features")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    # Imported here so that --help is fast.
    from rich.console import Console
    from rich.table import Table

    from mmsdpt.utils.feature_store import clear_features, list_features

    if args.command == "clear":
        count, size = clear_features(args.folder, args.unused_days)
        print(f"removed {count} files, {size / 1e6:,.1f} MB")
        return
    facts = list_features(args.folder)
    table = Table()
    for name in ("features", "computed in", "kept in", "by", "last used"):
        table.add_column(name, overflow="fold")
    for name in ("entries", "MB"):
        table.add_column(name, justify="right")
    for each in facts:
        about = [each.about.get(name, "?") for name in ("what", "computed", "kept", "versions")]
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(each.used))
        table.add_row(*about, used, f"{each.entries:,}", f"{each.size / 1e6:,.1f}")
    Console(markup=False).print(table)
    print(f"total: {sum(each.size for each in facts) / 1e6:,.1f} MB in {args.folder}")


if __name__ == "__main__":
    run_tool(main)
