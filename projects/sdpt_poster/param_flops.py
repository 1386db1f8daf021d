"""Parameters and multiply-adds of a model, or of every row of the SDPT poster, without weights.

``python -m projects.sdpt_poster.param_flops --table`` prints the poster's rows beside ours for
GLIP-L, ``python -m projects.sdpt_poster.param_flops CONFIG`` one GLIP; see docs/param_flops.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmengine.config import Config
    from torch import nn

    from projects.sdpt_poster.cost import CostMeter
    from projects.sdpt_poster.table import TableRow

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
BERT_BASE = "bert-base-uncased"


def use_plain_fusion(model: nn.Module) -> None:
    """Replace the re-associated X-MHA by MMDetection's, in place."""
    from mmsdpt.hosts.glip.fusion import VLFuse
    from projects.benchmark.plain_form import PlainAttention

    for layer in model.bbox_head.head.dyhead_tower:
        if isinstance(layer, VLFuse):
            layer.b_attn.attn = PlainAttention(layer.b_attn.attn)


def model_config(path: Path, bert: str, options: dict[str, Any] | None = None) -> Config:
    """The model of a config file, with a folder instead of the hub's BERT-base.

    Args:
        path: Config file.
        bert: Folder with BERT-base's config and a vocabulary.
        options: Overrides, as of ``--cfg-options``.

    Raises:
        InputError: if the model is not a GLIP.
    """
    from mmsdpt.utils.cli import load_config
    from mmsdpt.utils.errors import InputError

    cfg = load_config(argparse.Namespace(config=str(path), cfg_options=options))
    if (kind := cfg.model.get("type")) != "mmsdpt.GLIP":
        raise InputError(f"{path} has a model of type {kind}, expected mmsdpt.GLIP")
    if cfg.model.language_model.get("name", BERT_BASE) == BERT_BASE:
        cfg.model.language_model.name = cfg.model.bbox_head.lang_model_name = bert
    return cfg.model


def poster_table(meter: CostMeter, bert: str, configs: Path = CONFIGS) -> list[TableRow]:
    """GLIP-L without a method, then every row of the poster that has a config."""
    from projects.sdpt_poster.poster import PLAIN, config_rows
    from projects.sdpt_poster.table import TableRow

    base = configs / "_base_" / "models" / "glip_l.py"
    entries = [(PLAIN, PLAIN.method, base)]
    entries += [(entry.row, entry.label, entry.config) for entry in config_rows(configs)]
    rows = []
    for row, label, path in entries:
        sys.stderr.write(f"{label}\n")
        cost = meter.measure(model_config(path, bert))
        if row is PLAIN:
            cost = dataclasses.replace(cost, trainable=0)
        rows.append(TableRow(label, path.relative_to(configs.parent).as_posix(), cost, row))
    return rows


def render(rows: list[TableRow], args: argparse.Namespace) -> str:
    """The rows in the format that was asked for."""
    from projects.sdpt_poster import table

    size = (args.size[0], args.size[1])
    if args.format == "csv":
        return table.to_csv(rows)
    if args.format == "json":
        return table.to_json(rows, size, args.tokens)
    return table.to_page(rows, size, args.tokens) if args.table else table.to_markdown(rows)


def check(text: str, path: Path) -> int:
    """0 if the file holds ``text``; otherwise 1, and the difference on stderr."""
    found = path.read_text(encoding="utf-8") if path.is_file() else ""
    if found == text:
        return 0
    difference = difflib.unified_diff(
        found.splitlines(), text.splitlines(), str(path), "counted now", lineterm=""
    )
    sys.stderr.write("\n".join(difference) + "\n")
    sys.stderr.write(f"error: {path} is not current: write it again with --table --out {path}\n")
    return 1


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    from mmsdpt.utils.cli import Options

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", nargs="?", type=Path, help="config file of a GLIP")
    parser.add_argument("--table", action="store_true", help="all rows of the poster on GLIP-L")
    parser.add_argument("--check", type=Path, metavar="FILE", help="is this table current?")
    parser.add_argument("--format", choices=["md", "csv", "json"], default="md")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write there and not to stdout")
    parser.add_argument(
        "--size", nargs="+", type=int, default=[800, 800], metavar="N", help="height and width"
    )
    parser.add_argument("--tokens", type=int, default=256, help="tokens of the caption")
    parser.add_argument("--cfg-options", nargs="+", action=Options, help="override settings")
    args = parser.parse_args(argv)
    args.table = args.table or args.check is not None
    args.size = args.size * 2 if len(args.size) == 1 else args.size
    if args.table == (args.config is not None):
        parser.error("name a config, or ask for --table or --check, and not both")
    if len(args.size) != 2 or min(args.size) < 32:
        parser.error(f"--size takes one or two numbers from 32 on, got {args.size}")
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    from mmengine.logging import MMLogger

    import mmsdpt  # noqa: F401  makes mmdet importable without compiled mmcv
    from projects.benchmark.random_bert import make_bert
    from projects.sdpt_poster.cost import CostMeter
    from projects.sdpt_poster.poster import missing_configs
    from projects.sdpt_poster.table import TableRow

    # The logger that is made first is MMEngine's, which would tell that BERT comes without weights.
    if not MMLogger.check_instance_created("param_flops"):
        MMLogger.get_instance("param_flops", log_level="ERROR")
    meter = CostMeter(use_plain_fusion, (args.size[0], args.size[1]), args.tokens)
    with tempfile.TemporaryDirectory() as bert:
        make_bert(bert)
        if args.table:
            for path in missing_configs(CONFIGS):
                sys.stderr.write(f"no config for a row of the poster: configs/{path}\n")
            rows = poster_table(meter, bert)
        else:
            model = model_config(args.config, bert, args.cfg_options)
            rows = [TableRow(args.config.stem, str(args.config), meter.measure(model))]
    text = render(rows, args)
    if args.check is not None:
        return check(text, args.check)
    if args.out is not None:
        args.out.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    from mmsdpt.utils.cli import run_tool

    run_tool(main)
