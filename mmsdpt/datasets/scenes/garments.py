"""Parametrised outlines of clothes, drawn with large random variation.

A garment is a list of layers in drawing order. Frame: x right, y down, body centred at 0, the
longer side about 2. Filled layers of tone "fabric" make its mask; others are drawn on top of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator


@dataclass(frozen=True)
class Layer:
    """One polygon or line of a garment.

    Args:
        points: (K, 2) outline.
        tone: "fabric" (textured), "second" (a second colour), "dark" or "light" (shades of the
            fabric), "inside" (the lining seen through an opening), or "metal".
        width: of a line, relative to the frame; 0 for a filled polygon.
        silhouette: whether the layer is part of the garment's mask; else it lies within.
    """

    points: np.ndarray
    tone: str = "fabric"
    width: float = 0.0
    silhouette: bool = True


def _p(*points: tuple[float, float]) -> np.ndarray:
    return np.array(points, dtype=np.float64)


def _mirror(points: np.ndarray) -> np.ndarray:
    return points * (-1.0, 1.0)


def _both(points: np.ndarray, **kwargs) -> list[Layer]:
    return [Layer(points, **kwargs), Layer(_mirror(points), **kwargs)]


def _line(*points: tuple[float, float], tone: str = "dark", width: float = 0.025) -> Layer:
    return Layer(_p(*points), tone, width, silhouette=False)


def _ellipse(x: float, y: float, a: float, b: float, turn: float = 0.0) -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    u, v = a * np.cos(t), b * np.sin(t)
    return np.stack(
        [x + u * np.cos(turn) - v * np.sin(turn), y + u * np.sin(turn) + v * np.cos(turn)], 1
    )


def _curve(start: tuple, control: tuple, end: tuple, count: int = 8) -> list[tuple[float, float]]:
    """Quadratic Bézier curve."""
    t = np.linspace(0, 1, count)[:, None]
    a, b, c = (np.array(point, dtype=float) for point in (start, control, end))
    return [tuple(row) for row in (1 - t) ** 2 * a + 2 * t * (1 - t) * b + t**2 * c]


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


def _top(
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
    curve = _curve((neck_half, top), (0.0, top + 2 * dip), (-neck_half, top), 9)
    if neck == "v":
        curve = [(neck_half, top), (0.0, top + dip), (-neck_half, top)]
    body = _p(*side, *[(-x, y) for x, y in reversed(side)], *reversed(curve))
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
            layers.append(Layer(points if sign > 0 else _mirror(points), tone))
            if rng.random() < 0.6:
                end = points[2:4] if sign > 0 else _mirror(points[2:4])
                layers.append(Layer(end, "dark", rng.uniform(0.02, 0.07), False))
    back = _p(*_curve((neck_half, top), (0, top + 0.05), (-neck_half, top), 7), *reversed(curve))
    layers += [Layer(body), Layer(back, "inside")]
    if sleeve > 0:
        layers += _both(_p(shoulder, armpit), tone="dark", width=0.02, silhouette=False)
    if rng.random() < 0.6 and neck in ("round", "v", "wide"):
        trim = rng.choice(["dark", "second", "light"])
        layers.append(Layer(_p(*curve), trim, rng.uniform(0.02, 0.06), False))
    if rng.random() < 0.5:
        layers.append(_line((hem[0] * 0.97, hem[1] - 0.06), (-hem[0] * 0.97, hem[1] - 0.06)))
    measures = dict(top=top, half=half, neck=neck_half, bottom=top + length, dip=dip, hem=hem[0])
    return layers, measures


def _placket(rng: Generator, m: dict[str, float], end: float | None = None) -> list[Layer]:
    """A front edge with buttons."""
    x, start = rng.normal(0, 0.02), m["top"] + m["dip"]
    end = m["bottom"] if end is None else end
    layers = [_line((x, start), (x + rng.normal(0, 0.02), end), width=rng.uniform(0.015, 0.05))]
    tone = str(rng.choice(["dark", "light", "second"]))
    for y in np.linspace(start + 0.08, end - 0.08, int(rng.integers(4, 8))):
        layers.append(Layer(_ellipse(x + 0.03, y, 0.025, 0.025), tone, silhouette=False))
    return layers


def _collar(rng: Generator, m: dict[str, float], size: float) -> list[Layer]:
    """Two points of a collar, over the neck."""
    top, neck = m["top"], m["neck"]
    depth = m["dip"] + size * rng.uniform(0.8, 1.2)
    tip = (neck * rng.uniform(0.6, 1.2), top + depth)
    side = _p((neck * 0.9, top - size * 0.3), (neck * 1.15, top + 0.04), tip, (0.0, top + m["dip"]))
    tone = str(rng.choice(["fabric", "light", "dark", "second"], p=[0.35, 0.35, 0.2, 0.1]))
    band = _p((neck, top - size * 0.3), (-neck, top - size * 0.3), (-neck, top + 0.06))
    layers = [Layer(np.vstack([band, [(neck, top + 0.06)]]), "inside")]
    layers += _both(side, tone=tone)
    return layers + _both(np.vstack([side, side[:1]]), tone="dark", width=0.015, silhouette=False)


def _pockets(rng: Generator, x: float, y: float, w: float, h: float) -> list[Layer]:
    box = _p((x - w, y - h), (x + w, y - h), (x + w, y + h), (x - w, y + h), (x - w, y - h))
    sides = [box, _mirror(box)] if rng.random() < 0.6 else [box]
    return [Layer(points, "dark", 0.018, False) for points in sides]


def t_shirt(rng: Generator) -> list[Layer]:
    """Short sleeves, no opening."""
    neck = str(rng.choice(["round", "wide", "v"], p=[0.65, 0.2, 0.15]))
    sleeve, width, length = rng.uniform(0.22, 0.55), rng.uniform(0.85, 1.3), rng.uniform(1.2, 1.7)
    return _top(rng, sleeve, width, length, rng.uniform(0.9, 1.08), rng.uniform(0, 0.1), neck)[0]


def tank_top(rng: Generator) -> list[Layer]:
    """No sleeves."""
    neck = str(rng.choice(["wide", "v"]))
    return _top(rng, 0.0, rng.uniform(0.75, 1.0), rng.uniform(1.3, 1.8), 1.0, 0.08, neck)[0]


def longsleeve(rng: Generator) -> list[Layer]:
    """Long sleeves, no opening: also sweaters and hoodies."""
    neck = str(rng.choice(["round", "wide", "v", "high"], p=[0.55, 0.2, 0.1, 0.15]))
    sleeve, width, length = rng.uniform(0.9, 1.4), rng.uniform(0.8, 1.15), rng.uniform(1.2, 1.6)
    layers, m = _top(
        rng, sleeve, width, length, rng.uniform(0.85, 1.05), rng.uniform(0, 0.08), neck
    )
    if neck == "high" and rng.random() < 0.5:
        layers.append(_line((0, m["top"]), (0, m["top"] + 0.35), width=0.03))
    return layers


def hoodie(rng: Generator) -> list[Layer]:
    """A longsleeve with a hood and often a front pocket."""
    layers, m = _top(
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
        layers.append(_line(*pocket))
    return layers


def _hood(rng: Generator, m: dict[str, float]) -> list[Layer]:
    y, wide, high = m["top"] - 0.08, m["neck"] * rng.uniform(1.2, 1.6), rng.uniform(0.18, 0.34)
    hood = [Layer(_ellipse(0, y, wide, high))]
    return [*hood, Layer(_ellipse(0, y + 0.06, wide * 0.65, high * 0.7), "inside")]


def shirt(rng: Generator) -> list[Layer]:
    """Collar and buttons, sleeves of any length."""
    draw = rng.random()
    sleeve = rng.uniform(0.9, 1.35) if draw < 0.5 else rng.uniform(0.22, 0.55)
    sleeve = 0.0 if draw > 0.92 else sleeve
    width, length = rng.uniform(0.85, 1.2), rng.uniform(1.2, 1.7)
    layers, m = _top(
        rng, sleeve, width, length, rng.uniform(0.88, 1.08), rng.uniform(0, 0.12), "round"
    )
    layers += _placket(rng, m) + _collar(rng, m, rng.uniform(0.14, 0.26))
    if rng.random() < 0.4:
        y = m["top"] + 0.5
        layers += _pockets(rng, m["half"] * 0.5, y, 0.13, 0.14)
    return layers


def polo(rng: Generator) -> list[Layer]:
    """Collar, a short placket, short sleeves."""
    layers, m = _top(
        rng, rng.uniform(0.25, 0.5), rng.uniform(0.85, 1.15), rng.uniform(1.3, 1.6), 1.0, 0, "round"
    )
    return layers + _placket(rng, m, m["top"] + 0.55) + _collar(rng, m, rng.uniform(0.12, 0.2))


def outwear(rng: Generator) -> list[Layer]:
    """Jackets, coats and vests: thick, with a zip or buttons, a hood or a collar."""
    length = rng.uniform(1.2, 1.8)
    sleeve = 0.0 if rng.random() < 0.15 else rng.uniform(0.85, 1.3)
    angle = rng.uniform(0.9, 1.45) if rng.random() < 0.75 else rng.uniform(0.4, 0.9)
    layers, m = _top(
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
        gap = _p((0.05, m["top"] + 0.05), (opening, m["bottom"]), (-opening, m["bottom"]))
        layers.append(Layer(gap, "inside", silhouette=False))
    elif draw < 0.7:
        tone = str(rng.choice(["metal", "dark", "second"]))
        zip_line = _line((0, m["top"] + 0.02), (rng.normal(0, 0.03), m["bottom"]), tone=tone)
        layers.append(Layer(zip_line.points, tone, rng.uniform(0.025, 0.07), False))
    else:
        layers += _placket(rng, m)
    if rng.random() < 0.5:
        layers += _hood(rng, m)
    elif rng.random() < 0.8:
        layers += _collar(rng, m, rng.uniform(0.2, 0.4))
    if rng.random() < 0.3:  # quilted
        for y in np.arange(m["top"] + 0.2, m["bottom"], rng.uniform(0.12, 0.22)):
            layers.append(_line((-m["half"] * 0.95, y), (m["half"] * 0.95, y), width=0.02))
    for _ in range(int(rng.integers(0, 3))):
        y = rng.uniform(m["top"] + 0.4, m["bottom"] - 0.2)
        layers += _pockets(rng, m["half"] * 0.55, y, rng.uniform(0.1, 0.2), rng.uniform(0.02, 0.16))
    if rng.random() < 0.25:
        y = m["top"] + length * rng.uniform(0.45, 0.6)
        layers.append(_line((-m["half"], y), (m["half"], y), width=0.07))
    return layers


def dress(rng: Generator) -> list[Layer]:
    """A long body, a waist, a wide hem."""
    draw = rng.random()
    sleeve = (
        0.0 if draw < 0.45 else rng.uniform(0.15, 0.4) if draw < 0.75 else rng.uniform(0.6, 0.95)
    )
    width, length = rng.uniform(0.6, 0.85), rng.uniform(1.75, 2.1)
    neck = str(rng.choice(["round", "wide", "v"]))
    layers, m = _top(
        rng, sleeve, width, length, rng.uniform(1.05, 2.0), rng.uniform(0.05, 0.25), neck
    )
    if rng.random() < 0.6:
        y = m["top"] + length * rng.uniform(0.35, 0.5)
        tone, thick = str(rng.choice(["dark", "second", "light"])), rng.uniform(0.02, 0.12)
        layers.append(_line((-m["half"] * 0.85, y), (m["half"] * 0.85, y), tone=tone, width=thick))
        layers += _pleats(rng, y, m["bottom"], m["half"] * 0.8, m["hem"] * 0.95)
    if rng.random() < 0.2:
        layers += _placket(rng, m) + _collar(rng, m, 0.14)
    return layers


def _pleats(rng: Generator, top: float, bottom: float, a: float, b: float) -> list[Layer]:
    if rng.random() < 0.4:
        return []
    places = np.sort(rng.uniform(-1, 1, int(rng.integers(3, 9))))
    tone = str(rng.choice(["dark", "light"], p=[0.7, 0.3]))
    return [_line((x * a, top), (x * b, bottom - 0.03), tone=tone, width=0.02) for x in places]


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
        points = _p(
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
    sides = _p((waist, top - 0.03), (waist * 1.03, top + band), (-waist * 1.03, top + band))
    layers.append(Layer(np.vstack([sides, [(-waist, top - 0.03)]]), tone))
    layers.append(_line((-waist * 1.03, top + band), (waist * 1.03, top + band), width=0.015))
    layers.append(_line((0, top + band), (0, top + rise), width=0.02))
    if rng.random() < 0.6:
        layers += _both(
            _p((waist * 0.6, top + band), (hip * 0.95, top + band + 0.25)),
            tone="dark", width=0.02, silhouette=False,
        )  # fmt: skip
    if rng.random() < 0.3:  # cord
        layers += [_line((0.02, top + 0.05), (0.05, top + 0.4), tone="light", width=0.025)]
        layers += [_line((-0.02, top + 0.05), (-0.06, top + 0.35), tone="light", width=0.025)]
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


def skirt(rng: Generator) -> list[Layer]:
    """A waistband and a trapezoid; pleats, tiers, ruffles."""
    waist, length = rng.uniform(0.32, 0.55), rng.uniform(0.8, 1.8)
    hem, top = waist * rng.uniform(1.15, 2.3), -length / 2
    hip = (waist + hem) / 2 * rng.uniform(0.95, 1.15)
    x = np.linspace(hem, -hem, 17)
    wave = np.sin(np.linspace(0, rng.uniform(4, 25), 17)) * rng.uniform(0, 0.05)
    bottom = np.stack([x, top + length + 0.1 * (1 - (x / hem) ** 2) * rng.random() + wave], 1)
    side = _p((waist, top), (hip, top + length * 0.45))
    layers = [Layer(np.vstack([side, bottom, _mirror(side[::-1])]))]
    layers += _pleats(rng, top + 0.1, top + length, waist * 0.9, hem * 0.95)
    band = rng.uniform(0.05, 0.16)
    points = _p(
        (waist, top), (waist * 1.06, top + band), (-waist * 1.06, top + band), (-waist, top)
    )
    layers.append(Layer(points, str(rng.choice(["dark", "second", "light", "fabric"]))))
    layers.append(_line((-waist * 1.06, top + band), (waist * 1.06, top + band), width=0.015))
    if rng.random() < 0.25:
        for share in np.linspace(0.4, 0.8, int(rng.integers(1, 4))):
            half = waist + (hem - waist) * share
            layers.append(_line((-half, top + length * share), (half, top + length * share)))
    scale = rng.uniform(1.1, 1.5) if length < 1.3 else 1.1
    return [Layer(y.points * scale, y.tone, y.width * scale, y.silhouette) for y in layers]


def cap(rng: Generator) -> list[Layer]:
    """A dome with a visor, from the front or from the side."""
    wide, high = rng.uniform(0.65, 0.85), rng.uniform(0.8, 1.15)
    arc = np.linspace(np.pi, 2 * np.pi, 17)
    dome = np.stack([wide * np.cos(arc), 0.25 + high * np.sin(arc)], 1)
    shift = rng.normal(0, 0.5)
    seam = _curve((0, 0.25 - high), (shift * 0.6, -0.3), (shift * 0.8, 0.25))
    tone = "second" if rng.random() < 0.25 else str(rng.choice(["fabric", "dark", "light"]))
    reach, slope = rng.uniform(0.35, 0.7), rng.uniform(0.7, 1.05)
    left, right = (-wide * slope + shift * 0.3, 0.2), (wide * slope + shift * 0.3, 0.2)
    out = _curve(right, (shift * 1.6, 0.25 + 2 * reach), left, 13)
    inner = _curve(left, (shift * 0.5, rng.uniform(0.2, 0.5)), right, 9)
    layers = [Layer(dome), Layer(_p(*out, *inner), tone), Layer(_p(*inner), "dark", 0.03, False)]
    layers.append(Layer(_p(*seam), "dark", 0.02, False))
    if rng.random() < 0.5:
        layers.append(Layer(_ellipse(0, 0.25 - high, 0.07, 0.04), "dark"))
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
    band = _p((-wide * 1.03, 0.4), (wide * 1.03, 0.4), (wide * 1.0, 0.4 + brim))
    band = np.vstack([band, [(0, 0.44 + brim), (-wide, 0.4 + brim)]])
    layers.append(Layer(band, str(rng.choice(["fabric", "dark", "second", "light"]))))
    layers.append(_line((-wide, 0.4), (wide, 0.4), width=0.03))
    if rng.random() < 0.4:
        for x in np.linspace(-0.85, 0.85, 9):
            layers.append(_line((x * wide * 0.7, -0.3), (x * wide, 0.4 + brim), width=0.015))
    if rng.random() < 0.3:
        layers.append(Layer(_ellipse(0, 0.35 - high, 0.22, 0.2), "second"))
    return layers


def brimmed_hat(rng: Generator) -> list[Layer]:
    """A crown over a wide ellipse."""
    wide, crown, high = rng.uniform(0.85, 1.05), rng.uniform(0.45, 0.6), rng.uniform(0.5, 0.9)
    top = _p(
        (-crown, 0.2), *_curve((-crown * 0.85, -high), (0, -high * 1.3), (crown * 0.85, -high))
    )
    brim = _ellipse(0, 0.25, wide, rng.uniform(0.18, 0.45))
    layers = [Layer(brim), Layer(np.vstack([top, [(crown, 0.2), (0, 0.32)]]), "fabric")]
    ribbon = _p((-crown, 0.2), (-crown * 0.95, 0.02), (crown * 0.95, 0.02), (crown, 0.2), (0, 0.32))
    return [*layers, Layer(ribbon, str(rng.choice(["second", "dark"])), silhouette=False)]


def _side_shoe(rng: Generator, kind: str) -> list[Layer]:
    """A shoe from its side, toe to the right."""
    heel = rng.uniform(0.25, 0.5) if kind == "heels" else 0.0
    shaft = {"boot": rng.uniform(0.7, 1.3), "sneaker": rng.uniform(0.3, 0.45)}.get(kind, 0.25)
    toe = rng.uniform(0.16, 0.3)
    upper = _p(
        (-0.85, -shaft), (-0.3, -shaft + rng.uniform(-0.05, 0.05)),
        (-0.1, -0.3 - 0.1 * rng.random()), (0.5, -toe), (0.85, -toe * 0.7 + heel),
        (0.95, heel), (0.5, heel), (0.1, heel * 0.6), (-0.5, 0.0), (-0.9, 0.0),
    )  # fmt: skip
    layers = [Layer(upper), Layer(_ellipse(-0.58, -shaft, 0.27, 0.07), "inside", silhouette=False)]
    tone = str(rng.choice(["light", "dark", "second"]))
    if kind == "heels":
        layers.append(
            Layer(_p((-0.9, 0), (-0.65, 0), (-0.75, heel + 0.08), (-0.85, heel + 0.08)), "dark")
        )
    else:
        sole = rng.uniform(0.06, 0.2)
        layers.append(Layer(_p((-0.92, 0), (0.97, 0), (0.9, sole), (-0.9, sole)), tone))
    if kind in ("sneaker", "boot") and rng.random() < 0.8:
        for place in np.linspace(0, 1, int(rng.integers(3, 6))):
            x, y = -0.2 + 0.55 * place, -shaft * 0.85 + (shaft * 0.85 - 0.25) * place
            layers.append(_line((x - 0.13, y + 0.05), (x + 0.06, y), tone="light", width=0.04))
    if kind == "sneaker" and rng.random() < 0.6:
        layers.append(_line((-0.4, -0.02), (0.1, -0.25), tone=tone, width=0.08))
    return layers


def _top_shoe(rng: Generator, kind: str) -> list[Layer]:
    """A shoe from above, toe up."""
    toe, ball, heel = rng.uniform(0.2, 0.32), rng.uniform(0.34, 0.44), rng.uniform(0.24, 0.32)
    right = [*_curve((0, -0.98), (toe, -0.98), (ball, -0.45)), (heel, 0.35)]
    right += _curve((heel, 0.6), (heel, 0.98), (0, 0.98), 6)
    outline = _p(*right, *[(-x, y) for x, y in reversed(right)])
    front = rng.uniform(-0.55, 0.1)
    hole = _ellipse(0, (front + 0.82) / 2, heel * 0.75, (0.82 - front) / 2)
    layers = [Layer(outline), Layer(hole, "inside", silhouette=False)]
    if kind == "sneaker":
        layers.append(Layer(_ellipse(0, -0.8, ball * 0.7, 0.2), "light", silhouette=False))
        for y in np.linspace(-0.5, front + 0.2, 4):
            layers.append(_line((-0.17, y), (0.17, y + 0.04), tone="light", width=0.05))
    elif kind == "sandal":
        sole = Layer(outline, "inside")
        y = rng.uniform(-0.6, -0.3)
        strap = _p((-ball, y), (ball, y), (ball, y + 0.25), (-ball, y + 0.25))
        back = _p((-heel, 0.3), (heel, 0.3), (heel, 0.42), (-heel, 0.42))
        layers = [sole, Layer(strap), Layer(back)]
    elif rng.random() < 0.4:
        layers.append(Layer(_ellipse(0, front - 0.1, 0.14, 0.08), "second", silhouette=False))
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
    points = _p(
        (-0.25, -shaft), (0.15, -shaft), (0.17, 0.0), (0.7, 0.3), (0.75, 0.5), (0.5, 0.58),
        (-0.1, 0.45), (-0.27, 0.2),
    )  # fmt: skip
    cuff = _p((-0.25, -shaft), (0.15, -shaft), (0.15, -shaft + 0.15), (-0.25, -shaft + 0.15))
    tone = str(rng.choice(["second", "dark", "light"]))
    layers = [Layer(points), Layer(cuff, tone)]
    if rng.random() < 0.6:
        layers += [Layer(y.points + (-0.45, 0.15), y.tone) for y in layers]
    return layers


def bag(rng: Generator) -> list[Layer]:
    """A bag with a handle."""
    a, b, h = rng.uniform(0.45, 0.75), rng.uniform(0.5, 0.85), rng.uniform(0.7, 1.1)
    handle = _p(*_curve((-a * 0.6, -0.2), (0, -0.2 - rng.uniform(0.6, 1.5)), (a * 0.6, -0.2), 11))
    layers = [Layer(handle, "dark", 0.08), Layer(_p((-a, -0.2), (a, -0.2), (b, h), (-b, h)))]
    if rng.random() < 0.6:
        flap = _p((-a, -0.2), (a, -0.2), (a * 0.9, 0.2), (0, 0.32), (-a * 0.9, 0.2))
        layers.append(Layer(flap, str(rng.choice(["dark", "second", "light"])), silhouette=False))
    return layers


def glove(rng: Generator) -> list[Layer]:
    """A hand with four fingers and a thumb."""
    layers = [Layer(_p((-0.4, -0.2), (0.4, -0.2), (0.38, 0.6), (-0.38, 0.6)))]
    for x in (-0.3, -0.1, 0.1, 0.3):
        long = 0.9 - 0.5 * abs(x) * rng.uniform(0.8, 1.2)
        layers.append(Layer(_p((x, -0.1), (x * rng.uniform(1, 1.5), -long)), "fabric", 0.2))
    layers.append(Layer(_p((0.3, 0.25), (0.75, -0.1)), "fabric", 0.2))
    cuff = _p((-0.38, 0.55), (0.38, 0.55), (0.4, 0.85), (-0.4, 0.85))
    return [*layers, Layer(cuff, str(rng.choice(["dark", "second", "fabric"])))]


def scarf(rng: Generator) -> list[Layer]:
    """A long band in a bend, with fringes."""
    bend = rng.uniform(-0.9, 0.9)
    line = _p(*_curve((-0.5, -0.9), (bend, 0), (rng.uniform(0, 0.6), 0.85), 9))
    layers = [Layer(line, "fabric", rng.uniform(0.25, 0.45))]
    for x in np.linspace(-0.15, 0.15, 5):
        layers.append(Layer(_p(line[-1] + (x, 0), line[-1] + (x, 0.25)), "second", 0.03))
    return layers


def bow_tie(rng: Generator) -> list[Layer]:
    """Two wings and a knot."""
    h = rng.uniform(0.3, 0.5)
    wing = _p((0, -0.12), (0.95, -h), (0.9, 0), (0.95, h), (0, 0.12))
    return [*_both(wing), Layer(_ellipse(0, 0, 0.16, 0.18), str(rng.choice(["dark", "second"])))]


# Kind: (how to draw it, its names, how often). The first name is the one most often used.
GARMENTS: dict[str, tuple[Callable[[Generator], list[Layer]], tuple[str, ...], float]] = {
    "t-shirt": (t_shirt, ("t-shirt", "tee", "short-sleeved top"), 1.2),
    "tank top": (tank_top, ("tank top", "sleeveless top"), 0.3),
    "longsleeve": (longsleeve, ("longsleeve", "long-sleeved top", "sweater", "pullover"), 1.2),
    "hoodie": (hoodie, ("hoodie", "longsleeve", "hooded sweater"), 0.3),
    "shirt": (shirt, ("shirt", "button-up shirt", "blouse"), 1.2),
    "polo": (polo, ("polo shirt", "t-shirt"), 0.2),
    "outwear": (outwear, ("outwear", "jacket", "coat"), 1.3),
    "dress": (dress, ("dress", "gown"), 1.2),
    "pants": (pants, ("pants", "trousers", "jeans"), 1.1),
    "shorts": (shorts, ("shorts", "short pants"), 1.1),
    "skirt": (skirt, ("skirt",), 1.1),
    "cap": (cap, ("hat", "cap", "baseball cap"), 0.7),
    "beanie": (beanie, ("hat", "beanie", "knitted hat"), 0.5),
    "brimmed hat": (brimmed_hat, ("hat", "sun hat"), 0.25),
    "shoes": (shoes, ("shoes", "pair of shoes", "footwear"), 1.3),
    "sock": (sock, ("socks", "sock"), 0.15),
    "bag": (bag, ("bag", "handbag"), 0.2),
    "glove": (glove, ("glove",), 0.15),
    "scarf": (scarf, ("scarf",), 0.15),
    "bow tie": (bow_tie, ("bow tie",), 0.15),
}
