"""The page of a study in Markdown, LaTeX and HTML, its results as CSV, its plots as files."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from jinja2 import Environment

from mmsdpt.utils.atomic import write_atomically
from mmsdpt.utils.errors import InputError

from .frame import Score, to_frame
from .plots import study_plots
from .published import published_entries
from .records import FAILED, FINISHED, OUTDATED, read_records
from .study import Study, records_file
from .tables import study_tables
from .view import Table

FORMATS = ("md", "csv", "tex", "html")
_PAGE = Path(__file__).resolve().parents[1] / "assets" / "study_page.html"
_TITLES = dict(
    few_shot="Few-shot learning",
    base_to_new="From base to new classes",
    transfer="From one data set to others",
    comparison="Comparison of methods",
    stacking="A second method on a frozen first one",
)
_READ = dict(
    base_to_new="Trained on the base classes, the first half; both halves are tested, each among"
    " its own classes. H = 2BN / (B + N) of the means in its row.",
    transfer="Trained on {study.source}, which the average leaves out.",
    stacking="The first method trains on {study.source}, in slot old, and is frozen; the second"
    " one trains on other data with both attached, in slot new. All are tested with no slot,"
    " either or both switched on.",
)


def study_frame(study: Study, work_dir: str | os.PathLike) -> pd.DataFrame:
    """The results of a study's cells, without other cells in its file.

    Raises:
        InputError: if there are none yet.
    """
    path = records_file(study, Path(work_dir))
    records = read_records(path, [cell.name for cell in study.cells()])
    if not records:
        raise InputError(f"no results of {study.name} in {path}: run the study first")
    return to_frame(records)


def write_tables(
    study: Study, work_dir: str | os.PathLike, formats: Sequence[str] = FORMATS
) -> list[Path]:
    """Write the page of a study in each format, as ``WORK_DIR/NAME.<format>``.

    ``csv`` has every cell at full precision, one per line. The others have the tables; ``html``
    also has the plots.
    """
    frame = study_frame(study, work_dir)
    tables = study_tables(study, frame)
    written = []
    for format in formats:
        if format == "csv":
            text = frame.to_csv(index=False)
        elif format == "md":
            text = markdown(title(study), introduction(study, frame), tables)
        elif format == "tex":
            text = latex(tables)
        else:
            text = html(study, frame, tables)
        written.append(Path(work_dir) / f"{study.name}.{format}")
        write_atomically(written[-1], text.encode())
    return written


def write_plots(study: Study, work_dir: str | os.PathLike, format: str = "png") -> list[Path]:
    """Write each plot of a study as ``WORK_DIR/NAME_<plot>.<format>``."""
    written = []
    for plot in study_plots(study, study_frame(study, work_dir)):
        written.append(Path(work_dir) / f"{study.name}_{plot.name}.{format}")
        write_atomically(written[-1], plot.save(format))
    return written


def title(study: Study) -> str:
    """Heading of a study's page."""
    return study.title or _TITLES[study.protocol]


def _counted(frame: pd.DataFrame) -> str:
    """Methods with their numbers of trainings, as text."""
    return ", ".join(f"{name} ({n})" for name, n in frame["label"].value_counts().items())


def introduction(study: Study, frame: pd.DataFrame) -> list[str]:
    """Introductory paragraphs before the tables."""
    names = " or ".join(map(str, frame["score_name"].dropna().unique())) or "score"
    unit = "" if "score" in names else " in percent"
    state = "the last epoch"
    if study.selection:
        state = "the epoch that was best on the validation split (0 is the untrained model)"
    seeds = f"seed{'s' * (len(study.seeds) > 1)} {', '.join(map(str, study.seeds))}"
    images = "test sets" if study.split == "test" else "validation images"
    read = f"{names[:1].upper()}{names[1:]}{unit} on the {images}, of the model after {state}."
    if len(study.seeds) > 1:
        read += f" Mean ± standard deviation (n − 1) over the {seeds}."
    else:
        read += f" One seed ({seeds[5:]}): small differences say nothing."
    read += " A mean over data sets is taken for each seed first."
    found = [f"Models: {', '.join(study.hosts)}. Written from the results of {study.path}.", read]
    if study.protocol in _READ:
        found.append(_READ[study.protocol].format(study=study))
    labels = [study.methods[name].label for name in study.left_out]
    if labels:
        found.append(
            f"Left out: {', '.join(labels)}, which can only tell the classes that they were trained"
            " on."
        )
    planned, states = len(study.cells()), frame["status"]
    counts = {
        "not computed yet": planned - len(frame),
        "failed": (states == FAILED).sum(),
        "computed with other settings than the last run's": (states == OUTDATED).sum(),
        "without a score, as the test has no boxes": (
            (states == FINISHED) & frame["score"].isna()
        ).sum(),
    }
    lacks = [f"{number} {what}" for what, number in counts.items() if number]
    if lacks:
        found.append(f"Of {planned} cells: {', '.join(lacks)}. They are shown as a dash.")
    kept = frame[frame["best_epoch"] == 0].drop_duplicates("training")
    if len(kept):
        found.append(
            f"Trainings that did not get better than the untrained model: {_counted(kept)}."
        )
    worse = frame[(frame["gain"] < 0) & (frame["tested_on"] == frame["trained_on"])]
    worse = worse.drop_duplicates("training")
    if len(worse):
        found.append(
            f"Trainings that end below zero-shot on the {images}: {_counted(worse)}. Where first"
            " values are drawn at random, the untrained model may be below it, too."
        )
    versions = {
        name.removeprefix("version."): ", ".join(map(str, frame[name].dropna().unique()))
        for name in frame
        if name.startswith("version.")
    }
    listed = "; ".join(f"{name} {version}" for name, version in versions.items())
    for entry in published_entries(study):
        if "sentence" in entry:
            found.append(f"Published: {entry['sentence']} Source: {entry['source']}.")
    return [*found, f"Computed with {listed}."] if listed else found


def markdown(heading: str, paragraphs: Sequence[str], tables: Sequence[Table]) -> str:
    """The page in Markdown."""
    parts = [f"# {heading}", *paragraphs]
    for table in tables:
        texts = [[cell.replace("|", "\\|") for cell in row] for row in table.texts()]
        align = ["left" if table.is_text(name) else "right" for name in table.columns]
        grid = pd.DataFrame(texts, columns=table.columns).to_markdown(
            index=False, tablefmt="pipe", colalign=align, disable_numparse=True
        )
        parts += [f"## {table.title}", grid, *table.notes]
    return "\n\n".join(parts) + "\n"


def latex(tables: Sequence[Table]) -> str:
    """The tables in LaTeX, for a document with ``\\usepackage{booktabs}``."""
    parts = ["% Needs \\usepackage{booktabs}."]
    for number, table in enumerate(tables):
        columns = "".join("l" if table.is_text(name) else "r" for name in table.columns)
        label = re.sub(r"[^a-z0-9]+", "-", table.title.lower()).strip("-")
        grid = pd.DataFrame(table.texts(), columns=table.columns).map(_tex).rename(columns=_tex)
        text = grid.style.hide(axis="index").to_latex(
            column_format=columns,
            caption=_tex(table.title),
            label=f"tab:{label}-{number}",
            position_float="centering",
            hrules=True,
        )
        notes = "".join(f"\n\\smallskip {_tex(note)}\n" for note in table.notes)
        end = "\\end{table}"
        parts.append(text.replace(end, notes + end).rstrip())
    return "\n\n".join(parts) + "\n"


_TEX = str.maketrans(
    {x: f"\\{x}" for x in "&%$#_{}"}
    | {"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", '"': "''"}
    | {"±": "$\\pm$", "–": "--", "−": "$-$", "<": "$<$", ">": "$>$", "|": "$|$", "·": "$\\cdot$"}
    | {"[": "{[}", "]": "{]}"}  # after a line break they would be read as a length
)


def _tex(text: str) -> str:
    return text.translate(_TEX)


def html(study: Study, frame: pd.DataFrame, tables: Sequence[Table]) -> str:
    """The page as one self-contained HTML file with sortable tables and plots."""
    plots = [(plot.title, plot.alt, plot.svg()) for plot in study_plots(study, frame)]
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_PAGE.read_text(encoding="utf-8")).render(
        title=title(study),
        paragraphs=introduction(study, frame),
        tables=[
            (table, [[(text, _sort_key(x)) for text, x in zip(texts, row.values(), strict=True)]
                     for texts, row in zip(table.texts(), table.rows, strict=True)])
            for table in tables
        ],
        plots=plots,
    )  # fmt: skip


def _sort_key(cell: Score | str | None) -> float | str:
    """Sort key of a cell; missing cells come last."""
    return cell.mean if isinstance(cell, Score) else ""
