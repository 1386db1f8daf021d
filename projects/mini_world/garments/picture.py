"""Pictures of drawn garments on drawn beds and floors, with light, folds, prints and blur."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator

from ..backgrounds import grid, muted_colour, spread
from .chance import choose
from .fabrics import FABRIC_COLOURS, FABRICS, draw_fabric, draw_folds, draw_print
from .kinds import GARMENTS
from .outlines import Layer
from .surfaces import draw_surface

_BITS = 4  # of the fraction of a pixel in OpenCV's coordinates
_CANVAS = 2  # supersampling of outlines

_COLOUR_NAMES = tuple(FABRIC_COLOURS)
_COLOUR_ODDS = np.cumsum([odds for _, odds in FABRIC_COLOURS.values()])
_KINDS = tuple(GARMENTS)
_KIND_ODDS = np.cumsum([odds for _, _, odds in GARMENTS.values()])
_FABRIC_ODDS = np.cumsum([0.66, 0.1, 0.06, 0.04, 0.08, 0.06])


@dataclass(frozen=True)
class GarmentPicture:
    """A picture and what its caption may say.

    Args:
        image: (size, size, 3) uint8, RGB.
        kind: key of ``GARMENTS``.
        colour: of the fabric.
        fabric: one of ``FABRICS``.
        surface: what it lies on.
        printed: whether something is printed on its front.
    """

    image: np.ndarray
    kind: str
    colour: str
    fabric: str
    surface: str
    printed: bool


def draw_garment(rng: Generator, size: int, kind: str | None = None) -> GarmentPicture:
    """Draw one garment on a surface.

    Args:
        rng: source of all chance.
        size: side of the picture, pixels.
        kind: key of ``GARMENTS``; None for any.

    Returns:
        The picture and what is true of it.
    """
    kind = kind or choose(_KINDS, _KIND_ODDS, rng)
    layers = GARMENTS[kind][0](rng)
    colour = choose(_COLOUR_NAMES, _COLOUR_ODDS, rng)
    fabric = choose(FABRICS, _FABRIC_ODDS, rng)
    large = size * _CANVAS
    tone = np.array(FABRIC_COLOURS[colour][0]) + rng.normal(0, 8, 3) + rng.normal(0, 12)
    tone = np.clip(tone, 8, 250).astype(np.float32)
    second = muted_colour(rng, 0.9)
    if fabric == "mottled":
        second = tone * np.float32(rng.uniform(0.4, 1.5))
    shade, light = rng.uniform(0.35, 0.8), rng.uniform(1.1, 1.4)
    tones = {
        "dark": tone * shade if tone.mean() > 45 else tone + 40,
        "light": np.clip(tone * light + 25, 0, 255),
        "second": second,
        "inside": np.clip(tone * rng.uniform(0.3, 0.9), 0, 255),
        "metal": np.array((180.0, 178.0, 170.0)),
    }
    if rng.random() < 0.3:
        tones["inside"] = muted_colour(rng)
    points, unit = _warp(layers, rng, large)
    cloth = cv2.resize(draw_fabric(fabric, tone, second, rng, size), (large, large))
    odds = 0.45 if kind in ("t-shirt", "longsleeve", "hoodie", "cap") else 0.08
    printed = bool(rng.random() < odds)
    image, mask = _paint(layers, points, unit, cloth, tones, printed, rng)
    # Weighted by the mask before shrinking: no colour bleeds over the outline.
    alpha = cv2.resize(mask, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
    image = image * spread(np.float32(draw_folds(rng, size)))
    canvas, surface = draw_surface(rng, size, tone)
    if rng.random() < 0.2:
        _clutter(canvas, rng)
    if rng.random() < 0.7:
        blur = int(rng.integers(1, 4)) * 2 + 1
        shadow = cv2.blur(alpha, (blur, blur)) * np.float32(rng.uniform(0.15, 0.6))
        move = np.float32([[1, 0, rng.uniform(-3, 3)], [0, 1, rng.uniform(-1, 3)]])
        canvas = canvas * spread(1 - cv2.warpAffine(shadow, move, (size, size)))
    canvas += spread(alpha) * (image - canvas)
    return GarmentPicture(_camera(canvas, rng), kind, colour, fabric, surface, printed)


def _warp(layers: list[Layer], rng: Generator, size: int) -> tuple[list[np.ndarray], float]:
    """Outlines in pixels: proportions, rotation, perspective, place; edges that are not straight.

    Returns:
        The points of each layer, and pixels per unit.
    """
    corners = np.concatenate([layer.points for layer in layers if layer.silhouette])
    low, high = corners.min(0), corners.max(0)
    centre, extent = (low + high) / 2, (high - low).max() / 2
    turn = np.deg2rad(rng.normal(0, 8) if rng.random() < 0.96 else rng.uniform(-180, 180))
    cos, sin = np.cos(turn), np.sin(turn)
    matrix = np.array([[cos, sin], [-sin, cos]]) @ (np.eye(2) + rng.normal(0, 0.05, (2, 2)))
    matrix = np.diag(np.exp(rng.normal(0, 0.06, 2))) @ matrix
    scale = size / 2 * (rng.uniform(0.76, 1.06) if rng.random() < 0.85 else rng.uniform(0.6, 1.3))
    tilt, shift = rng.normal(0, 0.07, 2), rng.normal(0, 0.07, 2)
    frequency, phase = rng.uniform(2, 9, (2, 2)), rng.uniform(0, 6, 2)
    wobble = rng.uniform(0, 0.035)
    warped = []
    for layer in layers:
        points = layer.points
        if len(points) < 12:
            closed = points if layer.width else np.vstack([points, points[:1]])
            steps = np.arange((len(closed) - 1) * 3 + 1) / 3
            index = np.arange(len(closed))
            points = np.stack([np.interp(steps, index, closed[:, k]) for k in (0, 1)], 1)
        points = (points - centre) / extent
        points = points + wobble * np.sin(points[:, ::-1] * frequency[0] + phase)
        points = points + wobble * 0.5 * np.sin(points @ frequency.T * 2 + phase)
        points = points @ matrix
        points = points / (1 + points @ tilt)[:, None]
        warped.append((points + shift) * scale + size / 2)
    return warped, scale / extent


def _paint(
    layers: list[Layer],
    points: list[np.ndarray],
    unit: float,
    cloth: np.ndarray,
    tones: dict[str, np.ndarray],
    printed: bool,
    rng: Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Colours (S, S, 3) float32 and mask (S, S) uint8 on the canvas."""
    image, mask = cloth.copy(), np.zeros(cloth.shape[:2], np.uint8)
    if printed:
        silhouettes = [p for p, layer in zip(points, layers, strict=True) if layer.silhouette]
        draw_print(image, rng, np.concatenate(silhouettes).mean(0), unit)
    edge = tuple(map(float, tones["dark"]))
    seams = rng.random() < 0.7
    for layer, outline_ in zip(layers, points, strict=True):
        fixed = [np.round((outline_ - 0.5) * (1 << _BITS)).astype(np.int32)]
        width = max(1, int(round(layer.width * unit)))
        if layer.silhouette:
            if layer.width:
                cv2.polylines(mask, fixed, False, 255, width, cv2.LINE_8, _BITS)
            else:
                cv2.fillPoly(mask, fixed, 255, cv2.LINE_8, _BITS)
        if layer.tone == "fabric":
            if seams and not layer.width:
                cv2.polylines(image, fixed, True, edge, 1, cv2.LINE_AA, _BITS)
            continue
        colour = tuple(map(float, tones[layer.tone]))
        if layer.width:
            cv2.polylines(image, fixed, False, colour, width, cv2.LINE_AA, _BITS)
        else:
            cv2.fillPoly(image, fixed, colour, cv2.LINE_8, _BITS)
    return image, mask


def _clutter(canvas: np.ndarray, rng: Generator) -> None:
    """Things at the rim of the picture, in place."""
    size = canvas.shape[0]
    for _ in range(int(rng.integers(1, 4))):
        centre = rng.uniform(0, size, 2)
        centre[int(rng.integers(2))] = rng.choice([0.0, size])
        box = (tuple(map(float, centre)), tuple(rng.uniform(5, 25, 2)), float(rng.uniform(0, 180)))
        corners = np.round(cv2.boxPoints(box)).astype(np.int32)
        cv2.fillPoly(canvas, [corners], tuple(map(float, muted_colour(rng, 1.0))))


def _camera(canvas: np.ndarray, rng: Generator) -> np.ndarray:
    """Light, white balance, focus, vignette and noise; uint8."""
    size = canvas.shape[0]
    x, y = grid(size)
    gain = rng.uniform(0.75, 1.2) * (1 + rng.normal(0, 0.05, 3))
    light = 1 - rng.uniform(0, 0.25) * (x**2 + y**2) / 2 + rng.normal(0, 0.08) * x
    canvas = canvas * cv2.merge([np.float32(light * k) for k in gain]) + np.float32(
        rng.normal(0, 8)
    )
    if rng.random() < 0.5:
        canvas = cv2.GaussianBlur(canvas, (3, 3), rng.uniform(0.3, 1.0))
    noise = rng.standard_normal(canvas.shape, dtype=np.float32)
    return cv2.addWeighted(canvas, 1.0, noise, rng.uniform(0, 7), 0.0, dtype=cv2.CV_8U)
