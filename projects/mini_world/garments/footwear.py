"""Shoes and socks."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from .outlines import Layer, bezier, ellipse, polygon, stroke


def _side_shoe(rng: Generator, kind: str) -> list[Layer]:
    """A shoe from its side, toe to the right."""
    heel = rng.uniform(0.25, 0.5) if kind == "heels" else 0.0
    shaft = {"boot": rng.uniform(0.7, 1.3), "sneaker": rng.uniform(0.3, 0.45)}.get(kind, 0.25)
    toe = rng.uniform(0.16, 0.3)
    upper = polygon(
        (-0.85, -shaft), (-0.3, -shaft + rng.uniform(-0.05, 0.05)),
        (-0.1, -0.3 - 0.1 * rng.random()), (0.5, -toe), (0.85, -toe * 0.7 + heel),
        (0.95, heel), (0.5, heel), (0.1, heel * 0.6), (-0.5, 0.0), (-0.9, 0.0),
    )  # fmt: skip
    layers = [Layer(upper), Layer(ellipse(-0.58, -shaft, 0.27, 0.07), "inside", silhouette=False)]
    tone = str(rng.choice(["light", "dark", "second"]))
    if kind == "heels":
        spike = polygon((-0.9, 0), (-0.65, 0), (-0.75, heel + 0.08), (-0.85, heel + 0.08))
        layers.append(Layer(spike, "dark"))
    else:
        sole = rng.uniform(0.06, 0.2)
        layers.append(Layer(polygon((-0.92, 0), (0.97, 0), (0.9, sole), (-0.9, sole)), tone))
    if kind in ("sneaker", "boot") and rng.random() < 0.8:
        for place in np.linspace(0, 1, int(rng.integers(3, 6))):
            x, y = -0.2 + 0.55 * place, -shaft * 0.85 + (shaft * 0.85 - 0.25) * place
            layers.append(stroke((x - 0.13, y + 0.05), (x + 0.06, y), tone="light", width=0.04))
    if kind == "sneaker" and rng.random() < 0.6:
        layers.append(stroke((-0.4, -0.02), (0.1, -0.25), tone=tone, width=0.08))
    return layers


def _top_shoe(rng: Generator, kind: str) -> list[Layer]:
    """A shoe from above, toe up."""
    toe, ball, heel = rng.uniform(0.2, 0.32), rng.uniform(0.34, 0.44), rng.uniform(0.24, 0.32)
    right = [*bezier((0, -0.98), (toe, -0.98), (ball, -0.45)), (heel, 0.35)]
    right += bezier((heel, 0.6), (heel, 0.98), (0, 0.98), 6)
    outline = polygon(*right, *[(-x, y) for x, y in reversed(right)])
    front = rng.uniform(-0.55, 0.1)
    hole = ellipse(0, (front + 0.82) / 2, heel * 0.75, (0.82 - front) / 2)
    layers = [Layer(outline), Layer(hole, "inside", silhouette=False)]
    if kind == "sneaker":
        layers.append(Layer(ellipse(0, -0.8, ball * 0.7, 0.2), "light", silhouette=False))
        for y in np.linspace(-0.5, front + 0.2, 4):
            layers.append(stroke((-0.17, y), (0.17, y + 0.04), tone="light", width=0.05))
    elif kind == "sandal":
        sole = Layer(outline, "inside")
        y = rng.uniform(-0.6, -0.3)
        strap = polygon((-ball, y), (ball, y), (ball, y + 0.25), (-ball, y + 0.25))
        back = polygon((-heel, 0.3), (heel, 0.3), (heel, 0.42), (-heel, 0.42))
        layers = [sole, Layer(strap), Layer(back)]
    elif rng.random() < 0.4:
        layers.append(Layer(ellipse(0, front - 0.1, 0.14, 0.08), "second", silhouette=False))
    return layers


def shoes(rng: Generator, kind: str | None = None) -> list[Layer]:
    """One or two shoes, from above or from the side."""
    kind = kind or str(rng.choice(["sneaker", "boot", "heels", "flat", "sandal"]))
    above = kind in ("flat", "sandal") or rng.random() < 0.35
    one = (_top_shoe if above else _side_shoe)(rng, kind)
    if rng.random() < 0.1:
        return one
    layers: list[Layer] = []
    apart = rng.uniform(0.42, 0.6) if above else rng.uniform(0.15, 0.4)
    turns = rng.normal(0, 0.15 if above else 0.25, 2)
    flip = rng.random() < 0.15
    for sign, turn in zip((-1, 1), turns, strict=True):
        cos, sin = np.cos(turn), np.sin(turn)
        matrix = np.array([[cos, sin], [-sin, cos]])
        shift = (sign * apart, rng.normal(0, 0.1)) if above else (
            sign * rng.uniform(0, 0.25), sign * apart)  # fmt: skip
        mirror = (-1.0, 1.0) if (above and sign > 0) or (flip and sign > 0) else (1.0, 1.0)
        for y in one:
            moved = (y.points * mirror) @ matrix * 0.85 + shift
            layers.append(Layer(moved, y.tone, y.width * 0.85, y.silhouette))
    return layers


def sock(rng: Generator) -> list[Layer]:
    """A sock, or a pair."""
    shaft = rng.uniform(0.5, 1.2)
    points = polygon(
        (-0.25, -shaft), (0.15, -shaft), (0.17, 0.0), (0.7, 0.3), (0.75, 0.5), (0.5, 0.58),
        (-0.1, 0.45), (-0.27, 0.2),
    )  # fmt: skip
    cuff = polygon((-0.25, -shaft), (0.15, -shaft), (0.15, -shaft + 0.15), (-0.25, -shaft + 0.15))
    tone = str(rng.choice(["second", "dark", "light"]))
    layers = [Layer(points), Layer(cuff, tone)]
    if rng.random() < 0.6:
        layers += [Layer(y.points + (-0.45, 0.15), y.tone) for y in layers]
    return layers
