"""Outlines of all shapes, as polygons in a unit frame.

A shape is a list of parts (points, filled): the parts are drawn in order, and a part that is not
filled cuts a hole. x points right, y points down. Each outline is moved and scaled so that its box
is centred at 0 and its longer side is 2.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np

Part = tuple[np.ndarray, bool]

_FRACTION_BITS = 4


def _disc(x: float = 0.0, y: float = 0.0, radius: float = 1.0) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    return np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], axis=1)


def _rectangle(x1: float, y1: float, x2: float, y2: float) -> np.ndarray:
    return np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)], dtype=float)


def _star() -> np.ndarray:
    angle = np.arange(10) * np.pi / 5 - np.pi / 2
    radius = np.where(np.arange(10) % 2 == 0, 1.0, 0.42)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return np.stack([x, y], axis=1)


def _flower() -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    radius = 0.45 + 0.55 * np.abs(np.cos(2.5 * t))
    return np.stack([radius * np.sin(t), -radius * np.cos(t)], axis=1)


def _points(*points: tuple[float, float]) -> np.ndarray:
    return np.array(points, dtype=float)


def _bolt() -> np.ndarray:
    upper = [(0.1, -1), (-0.8, 0.22), (-0.15, 0.22), (-0.45, 1)]
    return _points(*upper, (0.8, -0.32), (0.18, -0.32), (0.75, -1))


_OUTLINES: dict[str, list[Part]] = {
    "circle": [(_disc(), True)],
    "square": [(_rectangle(-1, -1, 1, 1), True)],
    "triangle": [(_points((0, -1), (1.12, 0.95), (-1.12, 0.95)), True)],
    "star": [(_star(), True)],
    "heart": [(_heart(), True)],
    "ring": [(_disc(), True), (_disc(radius=0.52), False)],
    "cross": [(_rectangle(-1, -0.34, 1, 0.34), True), (_rectangle(-0.34, -1, 0.34, 1), True)],
    "moon": [(_disc(), True), (_disc(0.55, -0.12, 0.86), False)],
    "arrow": [
        (
            _points((0, -1), (0.85, 0), (0.32, 0), (0.32, 1), (-0.32, 1), (-0.32, 0), (-0.85, 0)),
            True,
        ),
    ],
    "flower": [(_flower(), True), (_disc(radius=0.24), False)],
    "bolt": [(_bolt(), True)],
    "hourglass": [
        (_points((-0.85, -1), (0.85, -1), (0.16, 0), (0.85, 1), (-0.85, 1), (-0.16, 0)), True)
    ],
    "fish": [
        (_disc(radius=0.62) * (1.15, 0.8) + (0.25, 0.0), True),
        (_points((-0.2, 0), (-1.0, -0.55), (-0.8, 0), (-1.0, 0.55)), True),
        (_disc(0.6, -0.1, 0.09), False),
    ],
    "house": [
        (_points((0, -1), (1, -0.15), (-1, -0.15)), True),
        (_rectangle(-0.75, -0.2, 0.75, 0.9), True),
        (_rectangle(-0.2, 0.3, 0.2, 0.9), False),
    ],
    "tree": [
        (_points((0, -1), (0.5, -0.4), (-0.5, -0.4)), True),
        (_points((0, -0.7), (0.65, 0.1), (-0.65, 0.1)), True),
        (_points((0, -0.3), (0.8, 0.65), (-0.8, 0.65)), True),
        (_rectangle(-0.16, 0.6, 0.16, 1.0), True),
    ],
    "mug": [
        (_disc(0.45, 0.0, 0.52), True),
        (_disc(0.45, 0.0, 0.28), False),
        (_rectangle(-0.9, -0.85, 0.42, 0.85), True),
    ],
    "key": [
        (_disc(-0.6, 0.0, 0.48), True),
        (_disc(-0.6, 0.0, 0.2), False),
        (_rectangle(-0.16, -0.14, 1.0, 0.14), True),
        (_rectangle(0.4, 0.1, 0.6, 0.48), True),
        (_rectangle(0.78, 0.1, 0.98, 0.48), True),
    ],
    "crown": [
        (
            _points(
                (-1, -0.6),
                (-0.5, 0.05),
                (0, -0.8),
                (0.5, 0.05),
                (1, -0.6),
                (0.8, 0.75),
                (-0.8, 0.75),
            ),
            True,
        ),
    ],
}


@cache
def outline(shape: str) -> tuple[Part, ...]:
    """The normalised parts of ``shape``.

    Raises:
        KeyError: no such shape.
    """
    parts = _OUTLINES[shape]
    filled = np.concatenate([points for points, is_filled in parts if is_filled])
    low, high = filled.min(axis=0), filled.max(axis=0)
    centre, scale = (low + high) / 2, 2 / (high - low).max()
    return tuple(((points - centre) * scale, is_filled) for points, is_filled in parts)


def shape_mask(
    shape: str, diameter: float, angle: float, offset: tuple[float, float], side: int
) -> np.ndarray:
    """Coverage of every pixel of a small square canvas by a shape.

    Args:
        shape: name of the shape.
        diameter: length of its longer side before rotation, pixels.
        angle: rotation, radians.
        offset: (x, y) of its centre relative to the centre of the canvas, pixels.
        side: side of the canvas, pixels.

    Returns:
        (side, side) float32 in [0, 1].
    """
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    # Small outlines need the finer edge; in large ones it costs much and shows little.
    supersampling = 4 if diameter < 48 else 2
    canvas = np.zeros((side * supersampling, side * supersampling), dtype=np.uint8)
    for points, is_filled in outline(shape):
        pixels = (points @ rotation) * (diameter / 2) + side / 2 + np.asarray(offset)
        # OpenCV counts from pixel centres, we count from pixel corners.
        fixed = np.round((pixels * supersampling - 0.5) * (1 << _FRACTION_BITS)).astype(np.int32)
        cv2.fillPoly(
            canvas, [fixed], 255 if is_filled else 0, lineType=cv2.LINE_8, shift=_FRACTION_BITS
        )
    mask = cv2.resize(canvas, (side, side), interpolation=cv2.INTER_AREA)
    return mask.astype(np.float32) / 255.0
