"""Put the tuner files of the study model_zoo.py where people find them, with their scores.

``python -m projects.model_zoo.publish WORK_DIR`` after ``python tools/experiments.py run
projects/model_zoo/studies/model_zoo.py --work-dir WORK_DIR`` writes
``projects/model_zoo/*.safetensors`` and the table in docs/model_zoo.md.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
from pathlib import Path

from mmsdpt.utils.atomic import write_atomically
from mmsdpt.utils.cli import run_tool
from mmsdpt.utils.errors import InputError

ROOT = Path(__file__).parents[2]
ZOO = Path(__file__).parent
PAGE = ROOT / "docs" / "model_zoo.md"
MARKS = ("<!-- table: begin -->\n", "<!-- table: end -->")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work_dir", type=Path, help="folder of the finished study")
    args = parser.parse_args()
    rows = read_rows(args.work_dir)
    for row in rows:
        shutil.copyfile(row["source"], ZOO / row["file"])
    before, _, rest = PAGE.read_text().partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    write_atomically(PAGE, (before + MARKS[0] + as_table(rows) + MARKS[1] + after).encode())
    print(as_table(rows))


def read_rows(work_dir: Path) -> list[dict]:
    """What is known of each tuned model of the study, by its task.

    Raises:
        InputError: if the study is not there, or a cell of it is not finished.
    """
    import pandas as pd  # not at the top: --help is quick

    records = work_dir / "model_zoo.jsonl"
    if not records.is_file():
        raise InputError(f"{records} is missing: run projects/model_zoo/studies/model_zoo.py first")
    frame = pd.read_json(records, lines=True).drop_duplicates("cell", keep="last")
    frame = frame[frame["method"] != "zero_shot"].sort_values("tested_on")
    if wrong := list(frame[frame["status"] != "finished"]["cell"]):
        raise InputError(f"{wrong[0]} did not finish: run the study again")
    rows = []
    for each in frame.to_dict("records"):
        source = work_dir / each["tuner_file"]
        rows.append(
            dict(
                source=source,
                task=each["tested_on"],
                file=f"{each['method']}_{each['host']}_{each['tested_on']}.safetensors",
                parameters=each["trainable"],
                size=source.stat().st_size,
                digest=hashlib.sha256(source.read_bytes()).hexdigest(),
                before=_scores(each["before"]),
                after=_scores(each["metrics"]),
                config=f"configs/mini/{each['method']}_mini_{each['tested_on']}.py",
            )
        )
    return rows


def _scores(metrics: dict) -> str:
    return " / ".join(
        f"{100 * metrics[name]:.1f}" for name in ("coco/bbox_mAP", "coco/bbox_mAP_50")
    )


def as_table(rows: list[dict]) -> str:
    """Markdown, one row for each file."""
    lines = [
        "| file | task | AP / AP50 before | after | parameters | KB | SHA-256 |",
        "|---|---|--:|--:|--:|--:|---|",
    ]
    for row in rows:
        place = f"../projects/model_zoo/{row['file']}"
        task = re.sub("_", " ", row["task"])
        lines.append(
            f"| [{row['file']}]({place}) | [{task}](../{row['config']}) | {row['before']} |"
            f" {row['after']} | {row['parameters']:,} | {row['size'] / 1000:.0f} |"
            f" `{row['digest'][:16]}…` |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    run_tool(main)
