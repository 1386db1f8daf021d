"""Features of names against the caption's tokens, and their measures on known features."""

from __future__ import annotations

import pytest
import torch

from projects.sdpt_poster.word_features import (
    features_of,
    mean_cosine,
    principal_directions,
    share_within,
)
from tests.hosts.small_glip import build_mini_glip


def test_a_names_feature_is_the_mean_over_its_tokens():
    model = build_mini_glip().eval()
    names = ("red circle", "striped blue star", *("moon",) * 4, "green ring")
    found = features_of(model, names)
    assert found.shape[0] == 7
    with torch.no_grad():  # after [CLS]: red circle . striped blue star .
        (first,) = model.encode_text(["red circle. striped blue star. moon. moon. moon. moon"])[
            "embedded"
        ]
        (last,) = model.encode_text(["green ring"])["embedded"]
    torch.testing.assert_close(found[0], first[1:3].mean(0))
    torch.testing.assert_close(found[1], first[4:7].mean(0))
    torch.testing.assert_close(found[6], last[1:3].mean(0))


def test_measures():
    torch.manual_seed(0)
    basis = torch.linalg.qr(torch.randn(8, 8))[0]
    known = torch.randn(50, 3) @ basis[:3] + 5 * basis[7]
    directions = principal_directions(known, 0.9999)
    assert len(directions) == 3
    assert share_within(known, directions) == pytest.approx(1)
    assert share_within(torch.randn(9, 2) @ basis[3:5], directions) == pytest.approx(0, abs=1e-6)
    half = torch.stack([basis[0] + basis[4], -basis[0] - basis[4]])
    assert share_within(half, directions) == pytest.approx(0.5)
    assert len(principal_directions(known, 0.1)) == 1
    assert mean_cosine(basis) == pytest.approx(0, abs=1e-6)
    assert mean_cosine(torch.ones(3, 4)) == pytest.approx(1)
