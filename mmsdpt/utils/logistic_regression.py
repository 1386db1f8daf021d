"""Logistic regression with regularisation chosen on validation data, as in the linear probe of
CoOp's authors (lpclip; after Radford et al., ICML 2021, appendix A.3).
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from mmengine.logging import print_log

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

# Of C = 10^x; the first of equally good ones is used.
_EXPONENTS = (6.0, 4.0, 2.0, 0.0, -2.0, -4.0, -6.0)
_STEPS = 8  # halvings of the interval around the best
_MAX_ITER = 1000


def search_logistic_regression(
    features: np.ndarray, val_features: np.ndarray, labels: np.ndarray, val_labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Fit for C from 10^6 down to 10^-6, then bisect the interval of one power of ten on either
    side of the best, eight times.

    Among equally good values the search takes the largest C in the first step, and then the smaller
    end of the interval, as the authors' code does.

    Args:
        features: (N, e).
        val_features: (M, e).
        labels: (N,), C classes from 0.
        val_labels: (M,).

    Returns:
        weight (C, e), bias (C,), and the chosen strength.
    """
    fits: dict[float, tuple[float, LogisticRegression]] = {}

    def accuracy(exponent: float) -> float:
        if exponent not in fits:
            model = _fit(features, labels, 10.0**exponent)
            fits[exponent] = float(np.mean(model.predict(val_features) == val_labels)), model
        return fits[exponent][0]

    peak = max(_EXPONENTS, key=accuracy)
    left, right = peak - 1, peak + 1
    for _ in range(_STEPS):
        middle = (left + right) / 2
        if accuracy(left) < accuracy(right):
            best, left = right, middle
        else:
            best, right = left, middle
    model = fits[best][1]
    if model.n_iter_.max() >= _MAX_ITER:
        print_log(
            f"The logistic regression with C = {10.0**best:.3g} stopped after {_MAX_ITER}"
            " iterations, before it converged",
            logger="current",
        )
    weight, bias = model.coef_, model.intercept_
    if len(weight) == 1:  # scikit-learn gives only the difference of two classes
        weight, bias = (np.concatenate([-part / 2, part / 2]) for part in (weight, bias))
    return weight, bias, 10.0**best


def _fit(features: np.ndarray, labels: np.ndarray, strength: float) -> LogisticRegression:
    # Not at the top: importing it takes a second, and only linear probes need it.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(solver="lbfgs", max_iter=_MAX_ITER, C=strength)
    with warnings.catch_warnings():
        # Most fits are discarded; the caller warns about the final one.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(features, labels)
