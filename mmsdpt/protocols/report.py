"""Rows of a protocol as a Markdown page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from .methods import Method
from .published import BASE_TO_NEW, CONDITIONS, FEW_SHOT
from .rows import select
from .scores import Score, average, harmonic_mean

Rows = Sequence[Mapping[str, Any]]
NOTHING = "–"
_TITLES = dict(
    few_shot="Few-shot classification",
    base_to_new="From base to new classes",
    cross_dataset="From one dataset to others",
    domain_generalisation="From one dataset to its variants",
)


@dataclass(frozen=True)
class Facts:
    """What belongs to all rows of a page.

    Attributes:
        protocol: Its name.
        model: Name of the model.
        methods: By name, in the order of the tables.
        datasets: Those tested, in the order of the tables.
        shots: Numbers of images of each class.
        seeds: Seeds.
        source: Dataset that is trained on, where it is one for all.
        command: That made the page.
        omitted: Methods that the protocol cannot compare.
        notes: Sentences to be said before the tables.
    """

    protocol: str
    model: str
    methods: Mapping[str, Method]
    datasets: Sequence[str]
    shots: Sequence[int]
    seeds: Sequence[int]
    source: str | None = None
    command: str = ""
    omitted: Sequence[str] = ()
    notes: Sequence[str] = ()

    @property
    def compared(self) -> list[Method]:
        """The methods that have rows."""
        return [method for method in self.methods.values() if method.name not in self.omitted]


def page(rows: Rows, facts: Facts) -> str:
    """The page of a protocol: tables, alignment, cost, what failed."""
    sections: Mapping[str, Callable[[Rows, Facts], list[str]]] = dict(
        few_shot=_few_shot,
        base_to_new=_base_to_new,
        cross_dataset=_transfer,
        domain_generalisation=_transfer,
    )
    seeds = ", ".join(map(str, facts.seeds))
    parts = [
        f"# {_TITLES[facts.protocol]}",
        f"Model: {facts.model}. Written by\n\n```\n{facts.command}\n```",
        f"Accuracy in percent on the full test sets, of the model after the last epoch; mean ±"
        f" standard deviation (n − 1) over the seeds {seeds}.",
        *facts.notes,
        *sections[facts.protocol](rows, facts),
        *_alignment(rows, facts),
        *_cost(rows, facts),
        *_errors(rows),
    ]
    return "\n\n".join(parts) + "\n"


def by_seed(rows: Rows, method: str, **wanted: Any) -> dict[int | None, float]:
    """Accuracies of one method by seed."""
    return {
        row["seed"]: row["accuracy"]
        for row in select(rows, method=method, **wanted)
        if row["accuracy"] is not None
    }


def dataset_score(rows: Rows, method: str, **wanted: Any) -> Score | None:
    """Score of one method on one dataset."""
    return average([by_seed(rows, method, **wanted)])


def average_score(rows: Rows, method: str, datasets: Sequence[str], **wanted: Any) -> Score | None:
    """Score of one method on the average of datasets; None unless all are there."""
    return average([by_seed(rows, method, dataset=dataset, **wanted) for dataset in datasets])


def conditions(method: Method, shots: Sequence[int]) -> list[int | None]:
    """The numbers of shots that a method has rows for."""
    return list(shots) if method.config is not None else [None]


def _few_shot(rows: Rows, facts: Facts) -> list[str]:
    columns: list[int | None] = [None, *facts.shots]
    header = ["method", *("no training" if k is None else shots_in_words(k) for k in columns)]

    def table(score: Callable[..., Score | None]) -> str:
        lines = []
        for method in facts.compared:
            own = conditions(method, facts.shots)
            cells = [score(method.name, k) if k in own else None for k in columns]
            # A column is empty for what has no such row; NOTHING says that a result is missing.
            texts = [
                _text(cell, k and len(facts.seeds)) if k in own else ""
                for k, cell in zip(columns, cells, strict=True)
            ]
            lines.append([method.label, *texts])
        return markdown_table(header, lines)

    parts = []
    if len(facts.datasets) > 1:
        parts += [
            f"## Average over {len(facts.datasets)} datasets",
            table(lambda name, k: average_score(rows, name, facts.datasets, shots=k)),
        ]
    for dataset in facts.datasets:
        parts += [
            f"## {dataset}",
            table(lambda name, k, d=dataset: dataset_score(rows, name, dataset=d, shots=k)),
        ]
    return [*parts, FEW_SHOT + " Numbers on other models or datasets do not compare."]


def _base_to_new(rows: Rows, facts: Facts) -> list[str]:
    parts = [
        "Trained on the base classes, the first half; both halves are tested each among its own"
        " classes. H = 2BN / (B + N) of the means in its row; so the average H is the H of the"
        " averages."
    ]
    if facts.omitted:
        names = ", ".join(facts.methods[name].label for name in facts.omitted)
        parts.append(
            f"Left out: {names}, which can only tell the classes that they were trained on."
        )
    header = ["method", "base", "new", "H"]

    def half_score(dataset: str, name: str, k: int | None, half: str) -> Score | None:
        return dataset_score(rows, name, dataset=dataset, shots=k, classes=half)

    def table(scores: Callable[[str, int | None, str], Score | None], shots: int) -> str:
        lines = []
        for method in facts.compared:
            k = shots if method.config is not None else None
            base, new = (scores(method.name, k, half) for half in ("base", "new"))
            h = NOTHING
            if base is not None and new is not None:
                h = f"{harmonic_mean(base.mean, new.mean):.2f}"
            seeds = k and len(facts.seeds)
            lines.append([method.label, _text(base, seeds), _text(new, seeds), h])
        return markdown_table(header, lines)

    for shots in facts.shots:
        if len(facts.datasets) > 1:
            parts += [
                f"## Average over {len(facts.datasets)} datasets, {shots_in_words(shots)}",
                table(
                    lambda name, k, half: average_score(
                        rows, name, facts.datasets, shots=k, classes=half
                    ),
                    shots,
                ),
            ]
        for dataset in facts.datasets:
            parts += [
                f"## {dataset}, {shots_in_words(shots)}",
                table(partial(half_score, dataset), shots),
            ]
    published = [
        [each.label, f"{each.base:.2f}", f"{each.new:.2f}", f"{each.harmonic:.2f}"]
        for each in BASE_TO_NEW.values()
    ]
    return [
        *parts,
        "## Published averages",
        f"{CONDITIONS}. They compare with the averages above only for the same model, datasets and"
        " shots.",
        markdown_table(header, published),
    ]


def _transfer(rows: Rows, facts: Facts) -> list[str]:
    targets = [dataset for dataset in facts.datasets if dataset != facts.source]
    parts = [f"Trained on {facts.source}; the average leaves it out."]
    for shots in facts.shots:
        lines = []
        for method in facts.compared:
            k = shots if method.config is not None else None
            scores = [
                dataset_score(rows, method.name, dataset=dataset, shots=k)
                for dataset in (facts.source, *targets)
            ]
            mean = average_score(rows, method.name, targets, shots=k)
            seeds = k and len(facts.seeds)
            texts = [_text(score, seeds) for score in (*scores, mean)]
            lines.append([method.label, *texts])
        header = ["method", f"{facts.source} (source)", *targets, "average"]
        parts += [f"## {shots_in_words(shots)}", markdown_table(header, lines)]
    return parts


def _alignment(rows: Rows, facts: Facts) -> list[str]:
    """Means over datasets, classes and seeds, for the most shots."""
    names = ("margin_before", "margin_after", "gap_before", "gap_after")
    lines = []
    for method in facts.compared:
        k = max(facts.shots) if method.config is not None else None
        found = select(rows, method=method.name, shots=k)
        values = [[row[name] for row in found if row[name] is not None] for name in names]
        texts = [f"{sum(each) / len(each):.4f}" if each else NOTHING for each in values]
        lines.append([method.label, *texts])
    return [
        "## Alignment",
        "margin: mean cosine of an image and the text of its class, minus that of an image and"
        " other classes; gap: distance of the mean image feature and the mean text feature."
        " Before: the model without the method, on the same images. With"
        f" {shots_in_words(max(facts.shots))}; means over all tests and seeds.",
        markdown_table(
            ["method", "margin before", "margin after", "gap before", "gap after"], lines
        ),
    ]


def _cost(rows: Rows, facts: Facts) -> list[str]:
    """Trained parameters and seconds, for the most shots."""
    lines = []
    for method in facts.compared:
        if method.config is None:
            continue
        found = select(rows, method=method.name, shots=max(facts.shots))
        found = [row for row in found if row["trainable"] is not None]
        counts = sorted({row["trainable"] for row in found})
        seconds = [row["train_seconds"] for row in found]
        lines.append(
            [
                method.label,
                f"{counts[0]:,}" + (f" to {counts[-1]:,}" if len(counts) > 1 else "")
                if counts
                else NOTHING,
                f"{sum(seconds) / len(seconds):.1f}" if seconds else NOTHING,
            ]
        )
    if not lines:
        return []
    return [
        "## Cost",
        f"With {shots_in_words(max(facts.shots))}; seconds of a training by the clock, mean.",
        markdown_table(["method", "trainable parameters", "training, s"], lines),
    ]


def _errors(rows: Rows) -> list[str]:
    failed = [row for row in rows if row["error"]]
    if not failed:
        return []
    lines = []
    for row in failed:
        what = f"{row['method']}, {row['dataset']} ({row['classes']} classes)"
        if row["shots"] is not None:
            what += f", {shots_in_words(row['shots'])}, seed {row['seed']}"
        lines.append(f"* {what}: {row['error']}")
    return ["## Failed", f"{NOTHING} in the tables above; run the command again.", "\n".join(lines)]


def shots_in_words(shots: int) -> str:
    """``1 shot``, ``16 shots``."""
    return f"{shots} shot" + ("" if shots == 1 else "s")


def _text(score: Score | None, seeds: int | None = None) -> str:
    """A score in a table; ``seeds`` is how many there should be."""
    if score is None:
        return NOTHING
    count = len(score.values)
    return f"{score:.2f}" + (f" ({count} of {seeds} seeds)" if seeds and count < seeds else "")


def markdown_table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table whose first column is text and whose others are numbers."""
    texts = [f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines]
    return "\n".join([f"| {' | '.join(header)} |", f"|---{'|--:' * (len(header) - 1)}|", *texts])
