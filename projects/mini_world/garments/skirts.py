"""Dresses and skirts."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from .outlines import Layer, mirrored, polygon, stroke
from .tops import bodice, front_edge, shirt_collar


def dress(rng: Generator) -> list[Layer]:
    """A long body, a waist, a wide hem."""
    draw = rng.random()
    sleeve = (
        0.0 if draw < 0.45 else rng.uniform(0.15, 0.4) if draw < 0.75 else rng.uniform(0.6, 0.95)
    )
    width, length = rng.uniform(0.6, 0.85), rng.uniform(1.75, 2.1)
    neck = str(rng.choice(["round", "wide", "v"]))
    layers, m = bodice(
        rng, sleeve, width, length, rng.uniform(1.05, 2.0), rng.uniform(0.05, 0.25), neck
    )
    if rng.random() < 0.6:
        y = m["top"] + length * rng.uniform(0.35, 0.5)
        tone, thick = str(rng.choice(["dark", "second", "light"])), rng.uniform(0.02, 0.12)
        layers.append(stroke((-m["half"] * 0.85, y), (m["half"] * 0.85, y), tone=tone, width=thick))
        layers += _pleats(rng, y, m["bottom"], m["half"] * 0.8, m["hem"] * 0.95)
    if rng.random() < 0.2:
        layers += front_edge(rng, m) + shirt_collar(rng, m, 0.14)
    return layers


def skirt(rng: Generator) -> list[Layer]:
    """A waistband and a trapezoid; pleats, tiers, ruffles."""
    waist, length = rng.uniform(0.32, 0.55), rng.uniform(0.8, 1.8)
    hem, top = waist * rng.uniform(1.15, 2.3), -length / 2
    hip = (waist + hem) / 2 * rng.uniform(0.95, 1.15)
    x = np.linspace(hem, -hem, 17)
    wave = np.sin(np.linspace(0, rng.uniform(4, 25), 17)) * rng.uniform(0, 0.05)
    bottom = np.stack([x, top + length + 0.1 * (1 - (x / hem) ** 2) * rng.random() + wave], 1)
    side = polygon((waist, top), (hip, top + length * 0.45))
    layers = [Layer(np.vstack([side, bottom, mirrored(side[::-1])]))]
    layers += _pleats(rng, top + 0.1, top + length, waist * 0.9, hem * 0.95)
    band = rng.uniform(0.05, 0.16)
    points = polygon(
        (waist, top), (waist * 1.06, top + band), (-waist * 1.06, top + band), (-waist, top)
    )
    layers.append(Layer(points, str(rng.choice(["dark", "second", "light", "fabric"]))))
    layers.append(stroke((-waist * 1.06, top + band), (waist * 1.06, top + band), width=0.015))
    if rng.random() < 0.25:
        for share in np.linspace(0.4, 0.8, int(rng.integers(1, 4))):
            half = waist + (hem - waist) * share
            layers.append(stroke((-half, top + length * share), (half, top + length * share)))
    scale = rng.uniform(1.1, 1.5) if length < 1.3 else 1.1
    return [Layer(y.points * scale, y.tone, y.width * scale, y.silhouette) for y in layers]


def _pleats(rng: Generator, top: float, bottom: float, a: float, b: float) -> list[Layer]:
    if rng.random() < 0.4:
        return []
    places = np.sort(rng.uniform(-1, 1, int(rng.integers(3, 9))))
    tone = str(rng.choice(["dark", "light"], p=[0.7, 0.3]))
    return [stroke((x * a, top), (x * b, bottom - 0.03), tone=tone, width=0.02) for x in places]
