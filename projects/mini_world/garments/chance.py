"""Draws that several parts of a picture need."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator

from ..backgrounds import muted_colour


def choose(names: tuple[str, ...], odds: np.ndarray, rng: Generator) -> str:
    """One of the names, by their cumulated odds."""
    return names[int(np.searchsorted(odds, rng.random() * odds[-1], side="right"))]


def spots(image: np.ndarray, rng: Generator, count: int, radius: float) -> None:
    """Soft-coloured blossoms at random places, in place."""
    size = image.shape[0]
    colours = [tuple(map(float, muted_colour(rng, 1.0))) for _ in range(int(rng.integers(1, 4)))]
    places = rng.uniform(0, size, (count, 2)) * 16
    radii = rng.uniform(0.4, 1.4, (count, 2)) * radius * 16
    for k in range(count):
        cv2.ellipse(
            image,
            (int(places[k, 0]), int(places[k, 1])),
            (int(radii[k, 0]), int(radii[k, 1])),
            float(radii[k, 0] * 7),
            0,
            360,
            colours[k % len(colours)],
            -1,
            cv2.LINE_8,
            4,
        )
