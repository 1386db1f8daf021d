"""What is plotted: scores of the rows by method and position."""

from __future__ import annotations

from .plot import Curve
from .report import Facts, Rows, average_score, conditions
from .scores import Score


def few_shot_curves(rows: Rows, facts: Facts) -> dict[str, list[Curve]]:
    """Accuracy against shots: one plot for each dataset, and ``average`` of more than one.

    Args:
        rows: Of :func:`mmsdpt.protocols.rows.to_rows`.
        facts: Of the page.

    Returns:
        Curves by the plot's title. A point whose score is missing is left out.
    """
    plots = {dataset: [dataset] for dataset in facts.datasets}
    if len(facts.datasets) > 1:
        plots["average"] = list(facts.datasets)
    found: dict[str, list[Curve]] = {}
    for title, datasets in plots.items():
        found[title] = []
        for method in facts.compared:
            scores = {
                k: average_score(rows, method.name, datasets, shots=k)
                for k in conditions(method, facts.shots)
            }
            points: dict[float | None, Score] = {
                k: score for k, score in scores.items() if score is not None
            }
            if points:
                found[title].append(Curve(method.label, points))
    return found
