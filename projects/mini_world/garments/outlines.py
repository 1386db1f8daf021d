"""What outlines of garments are made of.

A garment is a list of layers in drawing order. Frame: x right, y down, body centred at 0, the
longer side about 2. Filled layers of tone "fabric" make its mask; others are drawn on top of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


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


def polygon(*points: tuple[float, float]) -> np.ndarray:
    """(K, 2) of K points."""
    return np.array(points, dtype=np.float64)


def mirrored(points: np.ndarray) -> np.ndarray:
    """Left for right."""
    return points * (-1.0, 1.0)


def both_sides(points: np.ndarray, **kwargs) -> list[Layer]:
    """An outline and its mirror image; arguments as of :class:`Layer`."""
    return [Layer(points, **kwargs), Layer(mirrored(points), **kwargs)]


def stroke(*points: tuple[float, float], tone: str = "dark", width: float = 0.025) -> Layer:
    """A line within a garment."""
    return Layer(polygon(*points), tone, width, silhouette=False)


def ellipse(x: float, y: float, a: float, b: float, turn: float = 0.0) -> np.ndarray:
    """An ellipse with half axes a and b, turned by ``turn`` radians."""
    t = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    u, v = a * np.cos(t), b * np.sin(t)
    return np.stack(
        [x + u * np.cos(turn) - v * np.sin(turn), y + u * np.sin(turn) + v * np.cos(turn)], 1
    )


def bezier(start: tuple, control: tuple, end: tuple, count: int = 8) -> list[tuple[float, float]]:
    """Quadratic Bézier curve."""
    t = np.linspace(0, 1, count)[:, None]
    a, b, c = (np.array(point, dtype=float) for point in (start, control, end))
    return [tuple(row) for row in (1 - t) ** 2 * a + 2 * t * (1 - t) * b + t**2 * c]
