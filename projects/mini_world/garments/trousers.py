"""Trousers of any length."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from .outlines import Layer, both_sides, polygon, stroke


def _legs(rng: Generator, length: float, leg: float, hem: float, gap: float) -> list[Layer]:
    """Trousers of any length with waistband, fly and pockets."""
    waist = rng.uniform(0.36, 0.5)
    hip, rise = waist * rng.uniform(1.05, 1.35), rng.uniform(0.5, 0.65)
    top = -length / 2
    outer = hip + gap * 0.6
    layers = []
    crotch = (0.0, top + rise)
    for sign in (1.0, -1.0):
        move = rng.normal(0, 0.04)
        foot_out = (outer + move + (leg - hem) * 0.2, top + length)
        foot_in = (max(foot_out[0] - hem, gap * 0.3), top + length + rng.normal(0, 0.02))
        knee = (hip * 1.02 + gap * 0.35 + move / 2, top + (rise + length) / 2)
        knee_in = (max(knee[0] - leg, 0.02), knee[1])
        points = polygon(
            (0.0, top), (waist, top - 0.02), (hip, top + rise * 0.7), knee, foot_out, foot_in,
            knee_in, crotch,
        )  # fmt: skip
        layers.append(Layer(points * (sign, 1.0)))
        cuff = points[4:6] - (0.0, 0.06)
        if rng.random() < 0.5:
            layers.append(Layer(cuff * (sign, 1.0), "dark", rng.uniform(0.015, 0.06), False))
        if rng.random() < 0.08:
            layers.append(Layer(points[2:5] * (sign, 1.0) * 0.96, "light", 0.06, False))
    band = rng.uniform(0.05, 0.12)
    tone = str(rng.choice(["dark", "light", "fabric", "second"], p=[0.5, 0.2, 0.2, 0.1]))
    sides = polygon((waist, top - 0.03), (waist * 1.03, top + band), (-waist * 1.03, top + band))
    layers.append(Layer(np.vstack([sides, [(-waist, top - 0.03)]]), tone))
    layers.append(stroke((-waist * 1.03, top + band), (waist * 1.03, top + band), width=0.015))
    layers.append(stroke((0, top + band), (0, top + rise), width=0.02))
    if rng.random() < 0.6:
        layers += both_sides(
            polygon((waist * 0.6, top + band), (hip * 0.95, top + band + 0.25)),
            tone="dark", width=0.02, silhouette=False,
        )  # fmt: skip
    if rng.random() < 0.3:  # cord
        layers += [stroke((0.02, top + 0.05), (0.05, top + 0.4), tone="light", width=0.025)]
        layers += [stroke((-0.02, top + 0.05), (-0.06, top + 0.35), tone="light", width=0.025)]
    return layers


def pants(rng: Generator) -> list[Layer]:
    """Long legs."""
    leg = rng.uniform(0.24, 0.4)
    return _legs(rng, rng.uniform(1.8, 2.2), leg, leg * rng.uniform(0.6, 1.25), rng.uniform(0, 0.3))


def shorts(rng: Generator) -> list[Layer]:
    """Short legs."""
    leg = rng.uniform(0.38, 0.55)
    length = rng.uniform(0.75, 1.25)
    layers = _legs(rng, length, leg, leg * rng.uniform(0.95, 1.25), rng.uniform(0.05, 0.3))
    return [Layer(y.points * 1.5, y.tone, y.width * 1.5, y.silhouette) for y in layers]
