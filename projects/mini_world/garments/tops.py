"""Everything with a chest and sleeves, with large random variation."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from .outlines import Layer, bezier, both_sides, ellipse, mirrored, polygon, stroke


def _sleeve(
    rng: Generator, shoulder: tuple, armpit: tuple, length: float, cuff: float, angle: float
) -> np.ndarray:
    """The right sleeve: from the shoulder, ``angle`` below the horizontal; with an elbow."""
    direction = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-direction[1], direction[0]])
    bend = rng.normal(0, 0.25) if length > 0.7 else 0.0
    lower = np.array([np.cos(angle + bend), np.sin(angle + bend)])
    lower_across = np.array([-lower[1], lower[0]])
    top, under = np.array(shoulder), np.array(armpit)
    elbow = top + direction * length * 0.5
    end = elbow + lower * length * 0.5
    wide = (np.linalg.norm(under - top) * 0.8 + cuff) / 2
    inner = [end + lower_across * cuff, elbow + across * wide]
    return np.array([top, elbow, end, *inner, under])


def bodice(
    rng: Generator,
    sleeve: float,
    width: float,
    length: float,
    flare: float,
    waist: float = 0.0,
    neck: str = "round",
    thick: float = 1.0,
    angle: float | None = None,
) -> tuple[list[Layer], dict[str, float]]:
    """Everything with a chest; returns its layers and the measures that details need."""
    half = width / 2
    top = -length / 2
    neck_half = half * rng.uniform(0.3, 0.48)
    drop = rng.uniform(0.05, 0.14)
    shoulder = (half * rng.uniform(0.85, 1.0), top + drop)
    depth = rng.uniform(0.34, 0.46) * thick
    armpit = (half * 0.95, top + drop + depth)
    middle = (half * (1 - waist) * rng.uniform(0.95, 1.03), top + length * rng.uniform(0.42, 0.55))
    hem = (half * flare, top + length)
    sag = rng.normal(0, 0.03)
    side = [(neck_half, top), shoulder, armpit, middle, hem, (hem[0] * 0.5, hem[1] + sag)]
    dip = {"round": 0.1, "wide": 0.16, "v": 0.32, "high": 0.02}[neck] * rng.uniform(0.7, 1.3)
    curve = bezier((neck_half, top), (0.0, top + 2 * dip), (-neck_half, top), 9)
    if neck == "v":
        curve = [(neck_half, top), (0.0, top + dip), (-neck_half, top)]
    body = polygon(*side, *[(-x, y) for x, y in reversed(side)], *reversed(curve))
    layers = []
    if angle is None:
        # Spread out, hanging down, or folded along the body.
        angle = rng.uniform(0.15, 0.8) if rng.random() < 0.45 else rng.uniform(0.8, 1.5)
    tone = "second" if rng.random() < 0.1 else "fabric"
    if sleeve > 0:
        cuff = rng.uniform(0.15, 0.24) * thick * (1.0 if sleeve > 0.7 else 1.4)
        for sign in (1, -1):
            bend = angle + rng.normal(0, 0.12)
            points = _sleeve(rng, shoulder, armpit, sleeve, cuff, bend)
            layers.append(Layer(points if sign > 0 else mirrored(points), tone))
            if rng.random() < 0.6:
                end = points[2:4] if sign > 0 else mirrored(points[2:4])
                layers.append(Layer(end, "dark", rng.uniform(0.02, 0.07), False))
    back = polygon(
        *bezier((neck_half, top), (0, top + 0.05), (-neck_half, top), 7), *reversed(curve)
    )
    layers += [Layer(body), Layer(back, "inside")]
    if sleeve > 0:
        layers += both_sides(polygon(shoulder, armpit), tone="dark", width=0.02, silhouette=False)
    if rng.random() < 0.6 and neck in ("round", "v", "wide"):
        trim = rng.choice(["dark", "second", "light"])
        layers.append(Layer(polygon(*curve), trim, rng.uniform(0.02, 0.06), False))
    if rng.random() < 0.5:
        layers.append(stroke((hem[0] * 0.97, hem[1] - 0.06), (-hem[0] * 0.97, hem[1] - 0.06)))
    measures = dict(top=top, half=half, neck=neck_half, bottom=top + length, dip=dip, hem=hem[0])
    return layers, measures


def front_edge(rng: Generator, m: dict[str, float], end: float | None = None) -> list[Layer]:
    """A front edge with buttons."""
    x, start = rng.normal(0, 0.02), m["top"] + m["dip"]
    end = m["bottom"] if end is None else end
    layers = [stroke((x, start), (x + rng.normal(0, 0.02), end), width=rng.uniform(0.015, 0.05))]
    tone = str(rng.choice(["dark", "light", "second"]))
    for y in np.linspace(start + 0.08, end - 0.08, int(rng.integers(4, 8))):
        layers.append(Layer(ellipse(x + 0.03, y, 0.025, 0.025), tone, silhouette=False))
    return layers


def shirt_collar(rng: Generator, m: dict[str, float], size: float) -> list[Layer]:
    """Two points of a collar, over the neck."""
    top, neck = m["top"], m["neck"]
    depth = m["dip"] + size * rng.uniform(0.8, 1.2)
    tip = (neck * rng.uniform(0.6, 1.2), top + depth)
    behind, under = (neck * 0.9, top - size * 0.3), (neck * 1.15, top + 0.04)
    side = polygon(behind, under, tip, (0.0, top + m["dip"]))
    tone = str(rng.choice(["fabric", "light", "dark", "second"], p=[0.35, 0.35, 0.2, 0.1]))
    band = polygon((neck, top - size * 0.3), (-neck, top - size * 0.3), (-neck, top + 0.06))
    layers = [Layer(np.vstack([band, [(neck, top + 0.06)]]), "inside")]
    layers += both_sides(side, tone=tone)
    edge = np.vstack([side, side[:1]])
    return layers + both_sides(edge, tone="dark", width=0.015, silhouette=False)


def _pockets(rng: Generator, x: float, y: float, w: float, h: float) -> list[Layer]:
    box = polygon((x - w, y - h), (x + w, y - h), (x + w, y + h), (x - w, y + h), (x - w, y - h))
    sides = [box, mirrored(box)] if rng.random() < 0.6 else [box]
    return [Layer(points, "dark", 0.018, False) for points in sides]


def t_shirt(rng: Generator) -> list[Layer]:
    """Short sleeves, no opening."""
    neck = str(rng.choice(["round", "wide", "v"], p=[0.65, 0.2, 0.15]))
    sleeve, width, length = rng.uniform(0.22, 0.55), rng.uniform(0.85, 1.3), rng.uniform(1.2, 1.7)
    return bodice(rng, sleeve, width, length, rng.uniform(0.9, 1.08), rng.uniform(0, 0.1), neck)[0]


def tank_top(rng: Generator) -> list[Layer]:
    """No sleeves."""
    neck = str(rng.choice(["wide", "v"]))
    return bodice(rng, 0.0, rng.uniform(0.75, 1.0), rng.uniform(1.3, 1.8), 1.0, 0.08, neck)[0]


def longsleeve(rng: Generator) -> list[Layer]:
    """Long sleeves, no opening: also sweaters and hoodies."""
    neck = str(rng.choice(["round", "wide", "v", "high"], p=[0.55, 0.2, 0.1, 0.15]))
    sleeve, width, length = rng.uniform(0.9, 1.4), rng.uniform(0.8, 1.15), rng.uniform(1.2, 1.6)
    layers, m = bodice(
        rng, sleeve, width, length, rng.uniform(0.85, 1.05), rng.uniform(0, 0.08), neck
    )
    if neck == "high" and rng.random() < 0.5:
        layers.append(stroke((0, m["top"]), (0, m["top"] + 0.35), width=0.03))
    return layers


def hoodie(rng: Generator) -> list[Layer]:
    """A longsleeve with a hood and often a front pocket."""
    layers, m = bodice(
        rng, rng.uniform(0.9, 1.3), rng.uniform(0.9, 1.2), rng.uniform(1.2, 1.5), 0.95, 0.0, "round"
    )
    layers += _hood(rng, m)
    if rng.random() < 0.7:
        y, half = m["bottom"] - 0.15, m["half"]
        pocket = [
            (0.6 * half, y),
            (0.35 * half, y - 0.3),
            (-0.35 * half, y - 0.3),
            (-0.6 * half, y),
        ]
        layers.append(stroke(*pocket))
    return layers


def _hood(rng: Generator, m: dict[str, float]) -> list[Layer]:
    y, wide, high = m["top"] - 0.08, m["neck"] * rng.uniform(1.2, 1.6), rng.uniform(0.18, 0.34)
    hood = [Layer(ellipse(0, y, wide, high))]
    return [*hood, Layer(ellipse(0, y + 0.06, wide * 0.65, high * 0.7), "inside")]


def shirt(rng: Generator) -> list[Layer]:
    """Collar and buttons, sleeves of any length."""
    draw = rng.random()
    sleeve = rng.uniform(0.9, 1.35) if draw < 0.5 else rng.uniform(0.22, 0.55)
    sleeve = 0.0 if draw > 0.92 else sleeve
    width, length = rng.uniform(0.85, 1.2), rng.uniform(1.2, 1.7)
    layers, m = bodice(
        rng, sleeve, width, length, rng.uniform(0.88, 1.08), rng.uniform(0, 0.12), "round"
    )
    layers += front_edge(rng, m) + shirt_collar(rng, m, rng.uniform(0.14, 0.26))
    if rng.random() < 0.4:
        y = m["top"] + 0.5
        layers += _pockets(rng, m["half"] * 0.5, y, 0.13, 0.14)
    return layers


def polo(rng: Generator) -> list[Layer]:
    """Collar, a short placket, short sleeves."""
    layers, m = bodice(
        rng, rng.uniform(0.25, 0.5), rng.uniform(0.85, 1.15), rng.uniform(1.3, 1.6), 1.0, 0, "round"
    )
    layers += front_edge(rng, m, m["top"] + 0.55)
    return layers + shirt_collar(rng, m, rng.uniform(0.12, 0.2))


def outwear(rng: Generator) -> list[Layer]:
    """Jackets, coats and vests: thick, with a zip or buttons, a hood or a collar."""
    length = rng.uniform(1.2, 1.8)
    sleeve = 0.0 if rng.random() < 0.15 else rng.uniform(0.85, 1.3)
    angle = rng.uniform(0.9, 1.45) if rng.random() < 0.75 else rng.uniform(0.4, 0.9)
    layers, m = bodice(
        rng,
        sleeve,
        rng.uniform(0.9, 1.25),
        length,
        rng.uniform(0.9, 1.15),
        rng.uniform(0, 0.1),
        str(rng.choice(["round", "high", "v"])),
        thick=rng.uniform(1.0, 1.4),
        angle=angle,
    )
    draw = rng.random()
    if draw < 0.2:
        opening = rng.uniform(0.1, 0.3) * m["half"]
        gap = polygon((0.05, m["top"] + 0.05), (opening, m["bottom"]), (-opening, m["bottom"]))
        layers.append(Layer(gap, "inside", silhouette=False))
    elif draw < 0.7:
        tone = str(rng.choice(["metal", "dark", "second"]))
        zip_line = stroke((0, m["top"] + 0.02), (rng.normal(0, 0.03), m["bottom"]), tone=tone)
        layers.append(Layer(zip_line.points, tone, rng.uniform(0.025, 0.07), False))
    else:
        layers += front_edge(rng, m)
    if rng.random() < 0.5:
        layers += _hood(rng, m)
    elif rng.random() < 0.8:
        layers += shirt_collar(rng, m, rng.uniform(0.2, 0.4))
    if rng.random() < 0.3:  # quilted
        for y in np.arange(m["top"] + 0.2, m["bottom"], rng.uniform(0.12, 0.22)):
            layers.append(stroke((-m["half"] * 0.95, y), (m["half"] * 0.95, y), width=0.02))
    for _ in range(int(rng.integers(0, 3))):
        y = rng.uniform(m["top"] + 0.4, m["bottom"] - 0.2)
        layers += _pockets(rng, m["half"] * 0.55, y, rng.uniform(0.1, 0.2), rng.uniform(0.02, 0.16))
    if rng.random() < 0.25:
        y = m["top"] + length * rng.uniform(0.45, 0.6)
        layers.append(stroke((-m["half"], y), (m["half"], y), width=0.07))
    return layers
