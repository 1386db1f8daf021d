"""The table of parameters and multiply-adds as Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .cost import ModelCost
from .poster import POSTER_TOTAL, PosterRow

GIGA = 1e9


@dataclass(frozen=True)
class TableRow:
    """A row: a label, what we count, and the poster's row, if any."""

    label: str
    config: str
    cost: ModelCost
    row: PosterRow | None = None


def records(rows: Sequence[TableRow]) -> list[dict[str, Any]]:
    """Rows as plain values, for CSV and JSON."""
    return [
        dict(
            method=entry.label,
            config=entry.config,
            trainable=entry.cost.trainable,
            total=entry.cost.total,
            share_percent=round(entry.cost.share, 4),
            gmacs=round(entry.cost.macs / GIGA, 3),
            gmacs_as_poster=round(entry.cost.poster_macs / GIGA, 3),
            gmacs_executed=round(entry.cost.executed_macs / GIGA, 3),
            poster_par_m=entry.row.par if entry.row else None,
            poster_flops_g=entry.row.flops if entry.row else None,
            note=entry.row.note if entry.row else "",
        )
        for entry in rows
    ]


def to_csv(rows: Sequence[TableRow]) -> str:
    """One line per row, under the names of the columns."""
    out = io.StringIO()
    lines = records(rows)
    writer = csv.DictWriter(out, lines[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


def to_json(rows: Sequence[TableRow], size: tuple[int, int], tokens: int) -> str:
    """The rows, the parts of the plain form, and what was counted."""
    content = dict(
        image=list(size),
        tokens=tokens,
        poster_total_m=POSTER_TOTAL,
        parts_gmacs={name: round(macs / GIGA, 3) for name, macs in rows[0].cost.parts.items()},
        rows=records(rows),
    )
    return json.dumps(content, indent=2) + "\n"


def to_markdown(rows: Sequence[TableRow]) -> str:
    """The table with numbered notes, and the parts of the plain form."""
    with_poster = any(entry.row for entry in rows)
    notes = list(dict.fromkeys(entry.row.note for entry in rows if entry.row and entry.row.note))
    head = ["method", "trainable", "of all", "total", "GMACs", "GMACs, poster's way"]
    head.append("GMACs, executed")
    if with_poster:
        head += ["poster: #Par, M", "poster: FLOPs, G", "note"]
    lines = [f"| {' | '.join(head)} |", "|---" + "|--:" * (len(head) - 1) + "|"]
    for entry in rows:
        cost, row = entry.cost, entry.row
        cells = [
            entry.label,
            f"{cost.trainable:,}",
            f"{cost.share:.2f} %",
            f"{cost.total:,}",
            *(_giga(macs) for macs in (cost.macs, cost.poster_macs, cost.executed_macs)),
        ]
        if with_poster:
            cells += [
                _two_digits(value) for value in ((row.par, row.flops) if row else (None, None))
            ]
            cells.append(str(notes.index(row.note) + 1) if row and row.note else "")
        lines.append(f"| {' | '.join(cells)} |")
    if notes:
        lines += ["", *(f"{i}. {note}" for i, note in enumerate(notes, start=1))]
    return "\n".join(lines) + "\n\n" + parts_markdown(rows[0].cost)


def _giga(macs: int) -> str:
    return f"{macs / GIGA:,.2f}"


def _two_digits(value: float | None) -> str:
    return "" if value is None else f"{value:,.2f}"


def parts_markdown(cost: ModelCost) -> str:
    """Multiply-adds of the plain form without methods, by part."""
    lines = ["| part of the plain form | GMACs |", "|---|--:|"]
    lines += [f"| {name} | {macs / GIGA:,.1f} |" for name, macs in cost.parts.items()]
    lines.append(f"| all | {sum(cost.parts.values()) / GIGA:,.1f} |")
    return "\n".join(lines) + "\n"


def to_page(rows: Sequence[TableRow], size: tuple[int, int], tokens: int) -> str:
    """The page of the docs: what the columns mean, and the table."""
    return _PAGE.format(
        height=size[0], width=size[1], tokens=tokens, table=to_markdown(rows).rstrip()
    )


_PAGE = """\
# Parameters and multiply-adds

What every method of the SDPT poster (Zhou et al., ECCV 2024) trains and costs on GLIP-L, beside the
numbers that the poster prints. SDPT and LoRA have the poster's number of parameters. Most other
methods, at the sizes of their own papers, do not; a note says what differs. Everything is counted,
nothing is fitted to a number.

This page is written by

```
python -m projects.sdpt_poster.param_flops --table --out docs/param_flops.md
```

No weights are needed or allocated (PyTorch's meta device). `--check docs/param_flops.md` says
whether the page is current, and `--format csv` or `--format json` gives the table as data. With
`CONFIG [--size 800 800] [--tokens 256]` instead of `--table` it counts any other GLIP.

## The columns

All numbers are for inference, without the selection of boxes, on one image of {height} x {width}
with a caption of {tokens} tokens that names 80 classes. A multiply-add (MAC) is two
floating-point operations; G is 10^9.

- **trainable**, **total**: parameters that train, and all that are in use. What replaces a
  parameter of the host (full fine-tuning, BitFit, linear probing) is not counted twice.
  **of all** is their ratio; the poster's shares refer to its total of 397.59 M.
- **GMACs**: matrix products, attention and convolutions, deformable ones included, of the published
  form of GLIP as in MMDetection, plus what the method adds. Norms, activations, softmax and the
  bilinear samples of deformable convolution do not count. The plain form is run, and each operation
  is counted by the formulas of `torch.utils.flop_counter`. What a method adds is the difference
  between a pass with it and one without, in our encoders and with plain X-MHA.
- **GMACs, poster's way**: the poster's FLOPs are what
  [thop](https://github.com/Lyken17/pytorch-OpCounter) 0.1 reports on the original code: Linear
  (inputs x outputs per row), Conv2d, LayerNorm (4 per element), Softmax (3 n - 1 per row of n) and
  pooling, if they are modules. It does not count attention, deformable convolution, GroupNorm and
  biases, nor the FPN's lateral and output convolutions, whose class it does not know. It counts a
  1 x 1 convolution to 80 class logits that the original code runs and does not use. The same rules
  on our modules give 718.50 for GLIP-L without a method. They do not count what a method does
  outside such modules either (changed weights, prompts as keys and values in functions).
- **GMACs, executed**: what our form computes for the same result. X-MHA is re-associated
  ([performance.md](performance.md)), which saves most with short captions, and Swin's linear layers
  skip the padding of windows. What depends on neither image nor caption (inverse projections,
  changed weights, keys and values of SDPT's tokens) is computed beforehand and not counted.

## The table

If a method has two rows, the first is at its own paper's size and the second at the poster's
(`configs/baselines/*_poster_size.py`).

{table}
"""
