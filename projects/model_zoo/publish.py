"""Put the tuner files of a study of this folder where people find them, with their scores.

``python -m projects.model_zoo.publish WORK_DIR`` after ``python tools/experiments.py run
projects/model_zoo/studies/model_zoo.py --work-dir WORK_DIR`` (or ``model_zoo_clip.py``) writes
``projects/model_zoo/*.safetensors`` and the table in docs/model_zoo.md.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path

from mmsdpt.utils.atomic import write_atomically
from mmsdpt.utils.cli import run_tool, tool_parser
from mmsdpt.utils.errors import InputError

ROOT = Path(__file__).parents[2]
ZOO = Path(__file__).parent
PAGE = ROOT / "docs" / "model_zoo.md"
# By host: what its scores are called, and their names in a record.
SCORES = {
    "mini_glip": ("AP / AP50", {"coco/bbox_mAP": 100, "coco/bbox_mAP_50": 100}),
    "mini_clip": ("accuracy", {"accuracy": 1}),
}


def main() -> None:
    parser = tool_parser(__doc__)
    parser.add_argument("work_dir", type=Path, help="folder of one finished study, or both")
    args = parser.parse_args()
    studies = sorted(args.work_dir.glob("model_zoo*.jsonl"))
    if not studies:
        raise InputError(
            f"{args.work_dir} has no model_zoo*.jsonl: run a study of projects/model_zoo/studies"
            " first"
        )
    for rows in [read_rows(records) for records in studies]:
        for row in rows:
            shutil.copyfile(row["source"], ZOO / row["file"])
        begin, end = (f"<!-- table of {rows[0]['host']}: {word} -->" for word in ("begin", "end"))
        before, _, rest = PAGE.read_text().partition(begin)
        _, _, after = rest.partition(end)
        write_atomically(PAGE, f"{before}{begin}\n{as_table(rows)}{end}{after}".encode())
        print(as_table(rows))


def read_rows(records: Path) -> list[dict]:
    """What is known of each tuned model of a study, by its task, from its file of results.

    Raises:
        InputError: if a cell of it is not finished.
    """
    import pandas as pd  # not at the top: --help is quick

    frame = pd.read_json(records, lines=True).drop_duplicates("cell", keep="last")
    frame = frame[frame["method"] != "zero_shot"].sort_values("tested_on")
    if wrong := list(frame[frame["status"] != "finished"]["cell"]):
        raise InputError(f"{wrong[0]} did not finish: run the study again")
    rows = []
    for each in frame.to_dict("records"):
        source = records.parent / each["tuner_file"]
        task = each["tested_on"].removesuffix("_64px")
        scores = SCORES[each["host"]][1]
        rows.append(
            dict(
                source=source,
                host=each["host"],
                task=task,
                file=f"{each['method']}_{each['host']}_{task}.safetensors",
                parameters=each["trainable"],
                size=source.stat().st_size,
                digest=hashlib.sha256(source.read_bytes()).hexdigest(),
                before=_in_percent(each["before"], scores),
                after=_in_percent(each["metrics"], scores),
                config=f"configs/mini/{each['method']}_mini_{task}.py",
            )
        )
    return rows


def _in_percent(metrics: dict, scores: dict[str, float]) -> str:
    return " / ".join(f"{factor * metrics[name]:.1f}" for name, factor in scores.items())


def as_table(rows: list[dict]) -> str:
    """Markdown, one row for each file."""
    score = SCORES[rows[0]["host"]][0]
    lines = [
        f"| file | task | {score} before | after | parameters | KB | SHA-256 |",
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
