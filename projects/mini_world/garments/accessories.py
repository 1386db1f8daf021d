"""What is worn or carried beside clothes."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from .outlines import Layer, bezier, both_sides, ellipse, polygon


def bag(rng: Generator) -> list[Layer]:
    """A bag with a handle."""
    a, b, h = rng.uniform(0.45, 0.75), rng.uniform(0.5, 0.85), rng.uniform(0.7, 1.1)
    handle = polygon(
        *bezier((-a * 0.6, -0.2), (0, -0.2 - rng.uniform(0.6, 1.5)), (a * 0.6, -0.2), 11)
    )
    layers = [Layer(handle, "dark", 0.08), Layer(polygon((-a, -0.2), (a, -0.2), (b, h), (-b, h)))]
    if rng.random() < 0.6:
        flap = polygon((-a, -0.2), (a, -0.2), (a * 0.9, 0.2), (0, 0.32), (-a * 0.9, 0.2))
        layers.append(Layer(flap, str(rng.choice(["dark", "second", "light"])), silhouette=False))
    return layers


def glove(rng: Generator) -> list[Layer]:
    """A hand with four fingers and a thumb."""
    layers = [Layer(polygon((-0.4, -0.2), (0.4, -0.2), (0.38, 0.6), (-0.38, 0.6)))]
    for x in (-0.3, -0.1, 0.1, 0.3):
        long = 0.9 - 0.5 * abs(x) * rng.uniform(0.8, 1.2)
        layers.append(Layer(polygon((x, -0.1), (x * rng.uniform(1, 1.5), -long)), "fabric", 0.2))
    layers.append(Layer(polygon((0.3, 0.25), (0.75, -0.1)), "fabric", 0.2))
    cuff = polygon((-0.38, 0.55), (0.38, 0.55), (0.4, 0.85), (-0.4, 0.85))
    return [*layers, Layer(cuff, str(rng.choice(["dark", "second", "fabric"])))]


def scarf(rng: Generator) -> list[Layer]:
    """A long band in a bend, with fringes."""
    bend = rng.uniform(-0.9, 0.9)
    line = polygon(*bezier((-0.5, -0.9), (bend, 0), (rng.uniform(0, 0.6), 0.85), 9))
    layers = [Layer(line, "fabric", rng.uniform(0.25, 0.45))]
    for x in np.linspace(-0.15, 0.15, 5):
        layers.append(Layer(polygon(line[-1] + (x, 0), line[-1] + (x, 0.25)), "second", 0.03))
    return layers


def bow_tie(rng: Generator) -> list[Layer]:
    """Two wings and a knot."""
    h = rng.uniform(0.3, 0.5)
    wing = polygon((0, -0.12), (0.95, -h), (0.9, 0), (0.95, h), (0, 0.12))
    knot = Layer(ellipse(0, 0, 0.16, 0.18), str(rng.choice(["dark", "second"])))
    return [*both_sides(wing), knot]
