"""Hats."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from .outlines import Layer, bezier, ellipse, polygon, stroke


def cap(rng: Generator) -> list[Layer]:
    """A dome with a visor, from the front or from the side."""
    wide, high = rng.uniform(0.65, 0.85), rng.uniform(0.8, 1.15)
    arc = np.linspace(np.pi, 2 * np.pi, 17)
    dome = np.stack([wide * np.cos(arc), 0.25 + high * np.sin(arc)], 1)
    shift = rng.normal(0, 0.5)
    seam = bezier((0, 0.25 - high), (shift * 0.6, -0.3), (shift * 0.8, 0.25))
    tone = "second" if rng.random() < 0.25 else str(rng.choice(["fabric", "dark", "light"]))
    reach, slope = rng.uniform(0.35, 0.7), rng.uniform(0.7, 1.05)
    left, right = (-wide * slope + shift * 0.3, 0.2), (wide * slope + shift * 0.3, 0.2)
    out = bezier(right, (shift * 1.6, 0.25 + 2 * reach), left, 13)
    inner = bezier(left, (shift * 0.5, rng.uniform(0.2, 0.5)), right, 9)
    layers = [Layer(dome), Layer(polygon(*out, *inner), tone)]
    layers.append(Layer(polygon(*inner), "dark", 0.03, False))
    layers.append(Layer(polygon(*seam), "dark", 0.02, False))
    if rng.random() < 0.5:
        layers.append(Layer(ellipse(0, 0.25 - high, 0.07, 0.04), "dark"))
    return layers


def beanie(rng: Generator) -> list[Layer]:
    """A knitted hat: a dome with a turned-up brim, sometimes a pompom."""
    wide, high = rng.uniform(0.65, 0.9), rng.uniform(0.85, 1.3)
    arc = np.linspace(np.pi, 2 * np.pi, 17)
    shape = rng.uniform(0.7, 1.0)
    x = np.sign(np.cos(arc)) * np.abs(np.cos(arc)) ** shape
    dome = np.stack([wide * x, 0.4 + high * np.sin(arc)], 1)
    layers = [Layer(dome)]
    brim = rng.uniform(0.12, 0.4)
    band = polygon((-wide * 1.03, 0.4), (wide * 1.03, 0.4), (wide * 1.0, 0.4 + brim))
    band = np.vstack([band, [(0, 0.44 + brim), (-wide, 0.4 + brim)]])
    layers.append(Layer(band, str(rng.choice(["fabric", "dark", "second", "light"]))))
    layers.append(stroke((-wide, 0.4), (wide, 0.4), width=0.03))
    if rng.random() < 0.4:
        for x in np.linspace(-0.85, 0.85, 9):
            layers.append(stroke((x * wide * 0.7, -0.3), (x * wide, 0.4 + brim), width=0.015))
    if rng.random() < 0.3:
        layers.append(Layer(ellipse(0, 0.35 - high, 0.22, 0.2), "second"))
    return layers


def brimmed_hat(rng: Generator) -> list[Layer]:
    """A crown over a wide ellipse."""
    wide, crown, high = rng.uniform(0.85, 1.05), rng.uniform(0.45, 0.6), rng.uniform(0.5, 0.9)
    top = polygon(
        (-crown, 0.2), *bezier((-crown * 0.85, -high), (0, -high * 1.3), (crown * 0.85, -high))
    )
    brim = ellipse(0, 0.25, wide, rng.uniform(0.18, 0.45))
    layers = [Layer(brim), Layer(np.vstack([top, [(crown, 0.2), (0, 0.32)]]), "fabric")]
    upper, lower = (crown * 0.95, 0.02), (crown, 0.2)
    ribbon = polygon((-crown, 0.2), (-crown * 0.95, 0.02), upper, lower, (0, 0.32))
    return [*layers, Layer(ribbon, str(rng.choice(["second", "dark"])), silhouette=False)]
