"""The questions that MuDPT's paper leaves open, as variants of one method.

* ``length``: how many prompts;
* ``depth``: how many blocks have prompts of their own;
* ``layers``: how many blocks an injection transformer has;
* ``direction``: which tower's prompts flow into the other's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mmsdpt.utils.errors import InputError

from .methods import Method
from .plot import Curve
from .report import NOTHING, Facts, Rows, average_score, markdown_table
from .scores import Score

DIRECTIONS = ("none", "t2v", "v2t", "both")
LINEAR, TRANSFORMER = "linear injection", "transformer injection"
_INJECTION = {LINEAR: "linear", TRANSFORMER: "transformer"}


@dataclass(frozen=True)
class Question:
    """One setting that is varied, all others being the method's own.

    Attributes:
        name: Of the question.
        x_label: What the positions are.
        variants: Methods by series and position.
        ticks: What a position is called, where it is not its number.
    """

    name: str
    x_label: str
    variants: Mapping[tuple[str, int], Method]
    ticks: Mapping[float, str] = field(default_factory=dict)


def questions(
    base: Method,
    names: Sequence[str],
    lengths: Sequence[int],
    depths: Sequence[int],
    layers: Sequence[int],
) -> list[Question]:
    """The questions to be studied.

    Args:
        base: MuDPT, with one tuner.
        names: Of the questions.
        lengths: Numbers of prompts.
        depths: Numbers of blocks with prompts.
        layers: Numbers of blocks of an injection transformer.

    Raises:
        InputError: if a name is not known.
    """

    def variant(name: str, **settings: Any) -> Method:
        return Method(f"{base.name}_{name}", name, base.config, settings=settings)

    def length() -> Question:
        found = {
            (series, n): variant(f"{kind}_length_{n}", injection=kind, num_tokens=n)
            for series, kind in _INJECTION.items()
            for n in lengths
        }
        return Question("length", "prompts in each tower", found)

    def depth() -> Question:
        found = {
            (series, d): variant(f"{kind}_depth_{d}", injection=kind, depth=d)
            for series, kind in _INJECTION.items()
            for d in depths
        }
        return Question("depth", "blocks with prompts", found)

    def injection_layers() -> Question:
        found = {
            (TRANSFORMER, n): variant(f"layers_{n}", injection="transformer", injection_layers=n)
            for n in layers
        }
        return Question("layers", "blocks of the injection transformer", found)

    def direction() -> Question:
        found = {}
        for series, kind in _INJECTION.items():
            for position, way in enumerate(DIRECTIONS):
                settings = dict(injection="none")
                if way != "none":
                    settings = dict(injection=kind, direction=way)
                # Without an injection both series are the same method.
                name = "direction_none" if way == "none" else f"{kind}_direction_{way}"
                found[series, position] = variant(name, **settings)
        return Question(
            "direction", "direction of the injection", found, dict(enumerate(DIRECTIONS))
        )

    known = dict(length=length, depth=depth, layers=injection_layers, direction=direction)
    wrong = [name for name in names if name not in known]
    if wrong:
        raise InputError(f"there is no question {wrong[0]!r}; there are {', '.join(known)}")
    return [known[name]() for name in names]


def curves(question: Question, rows: Rows, facts: Facts, zero_shot: str) -> list[Curve]:
    """Accuracy, averaged over the datasets, against the setting; one curve for each series.

    Args:
        question: What is varied.
        rows: Of the few-shot protocol, with one number of shots.
        facts: Of these rows.
        zero_shot: Name of the method that is a level line.
    """
    found: dict[str, dict[float | None, Score]] = {}
    level = average_score(rows, zero_shot, facts.datasets, shots=None)
    for (series, position), method in question.variants.items():
        score = average_score(rows, method.name, facts.datasets, shots=facts.shots[0])
        if score is not None:
            found.setdefault(series, {})[position] = score
    lines = [Curve(series, points) for series, points in found.items()]
    return lines if level is None else [Curve("zero-shot", {None: level}), *lines]


def study_page(asked: Sequence[Question], rows: Rows, facts: Facts) -> str:
    """The answers as a Markdown page: one table for each question."""
    seeds = ", ".join(map(str, facts.seeds))
    parts = [
        "# Prompt length, depth, injection layers and direction",
        f"Model: {facts.model}. Written by\n\n```\n{facts.command}\n```",
        f"Accuracy in percent with {facts.shots[0]} shots on the full test set, averaged over"
        f" {', '.join(facts.datasets)}; mean ± standard deviation (n − 1) over the seeds {seeds}."
        " margin is that of the alignment after tuning (docs/clip_protocols.md); what is not varied"
        " is as in the method's config.",
    ]
    for question in asked:
        lines = []
        for (series, position), method in question.variants.items():
            score = average_score(rows, method.name, facts.datasets, shots=facts.shots[0])
            own = [row for row in rows if row["method"] == method.name]
            margins = [row["margin_after"] for row in own if row["margin_after"] is not None]
            counts = sorted({row["trainable"] for row in own if row["trainable"] is not None})
            lines.append(
                [
                    question.ticks.get(position, str(position)),
                    series,
                    NOTHING if score is None else f"{score:.2f}",
                    f"{sum(margins) / len(margins):.4f}" if margins else NOTHING,
                    f"{counts[-1]:,}" if counts else NOTHING,
                ]
            )
        header = [question.x_label, "", "accuracy", "margin", "trainable parameters"]
        parts += [f"## {question.name.capitalize()}", markdown_table(header, lines)]
    errors = [
        f"* {row['method']}, seed {row['seed']}: {row['error']}" for row in rows if row["error"]
    ]
    if errors:
        parts += ["## Failed", "\n".join(dict.fromkeys(errors))]
    return "\n\n".join(parts) + "\n"
