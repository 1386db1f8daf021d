"""Published numbers of CLIP's methods."""

from __future__ import annotations

import pytest

from mmsdpt.experiments.frame import Score, harmonic_mean
from projects.mudpt_paper import published, published_later

TABLES = [each for each in published.PUBLISHED if "values" in each]


def test_published_harmonic_means_are_those_of_their_averages():
    for table in TABLES:
        for numbers in table["values"].values():
            h = harmonic_mean(Score(numbers["base"]), Score(numbers["new"]))
            assert h.mean == pytest.approx(numbers["H"], abs=0.02)


def test_later_methods_stand_beside_both_independent_prompts():
    (table,) = [each for each in published_later.PUBLISHED if "values" in each]
    recipes = [table["values"][f"independent_vl{end}"]["H"] for end in ("", "_promptsrc")]
    assert recipes == [77.90, 77.51]
    assert {"independent_vl_promptsrc", *table["values"]} - {*table["labels"]} == {"zero_shot"}
