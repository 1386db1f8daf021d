"""Fabrics, prints and folds."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator

from ..backgrounds import grid, mix, muted_colour, smooth_noise
from ..shapes import outline
from ..world import SHAPES
from .chance import spots

# RGB and how often; colours of fabrics are less pure than those of the shapes.
FABRIC_COLOURS: dict[str, tuple[tuple[int, int, int], float]] = {
    "black": ((26, 26, 29), 1.8),
    "grey": ((130, 131, 134), 1.5),
    "white": ((228, 227, 224), 1.5),
    "blue": ((48, 88, 176), 1.2),
    "navy": ((30, 36, 66), 1.0),
    "denim": ((98, 126, 160), 1.0),
    "light blue": ((150, 184, 220), 0.6),
    "red": ((188, 38, 46), 0.8),
    "burgundy": ((104, 32, 48), 0.5),
    "pink": ((226, 150, 176), 0.9),
    "beige": ((205, 184, 154), 1.0),
    "brown": ((104, 72, 52), 0.7),
    "green": ((54, 122, 74), 0.7),
    "olive": ((98, 98, 62), 0.6),
    "yellow": ((222, 186, 64), 0.6),
    "orange": ((222, 122, 52), 0.5),
    "purple": ((110, 78, 150), 0.6),
    "turquoise": ((64, 160, 162), 0.5),
}

FABRICS = ("plain", "striped", "checkered", "dotted", "floral", "mottled")


def draw_fabric(
    fabric: str, colour: np.ndarray, second: np.ndarray, rng: Generator, size: int
) -> np.ndarray:
    """(size, size, 3) float32 of the cloth, over the whole picture."""
    x, y = grid(size)
    angle = rng.normal(0, 0.1) + (np.pi / 2 if rng.random() < 0.3 else 0.0)
    u = (x * np.cos(angle) + y * np.sin(angle)).astype(np.float32)
    v = (y * np.cos(angle) - x * np.sin(angle)).astype(np.float32)
    frequency = np.float32(rng.uniform(10, 40))
    if fabric == "striped":
        wave = np.sin(v * frequency) + rng.uniform(-0.6, 0.6)
        return mix(np.clip(wave * 2 + 0.5, 0, 1), colour, second)
    if fabric == "checkered":
        wave = 0.25 * (np.sign(np.sin(v * frequency)) + np.sign(np.sin(u * frequency))) + 0.5
        return mix(wave.astype(np.float32), colour, second)
    if fabric == "dotted":
        wave = np.sin(v * frequency) * np.sin(u * frequency)
        return mix(np.clip((wave - 0.5) * 6, 0, 1), colour, second)
    if fabric == "mottled":
        noise = smooth_noise(rng, size, int(rng.integers(6, 20)))
        return mix(np.clip((noise - 0.5) * rng.uniform(1, 4) + 0.5, 0, 1), colour, second)
    image = np.empty((size, size, 3), np.float32)
    image[:] = colour
    if fabric == "floral":
        spots(image, rng, int(rng.integers(20, 90)), rng.uniform(0.015, 0.05) * size)
    return image


def draw_print(image: np.ndarray, rng: Generator, centre: np.ndarray, unit: float) -> None:
    """Letters, a logo or a shape on the chest, in place."""
    x, y = centre + rng.normal(0, 0.08, 2) * unit
    side = rng.uniform(0.08, 0.35) * unit
    colour = tuple(map(float, muted_colour(rng, 1.0)))
    draw = rng.random()
    if draw < 0.4:
        text = "".join(chr(65 + k) for k in rng.integers(0, 26, int(rng.integers(3, 8))))
        scale = side / 26
        for line in range(int(rng.integers(1, 3))):
            place = (int(x - side), int(y + line * side * 0.9))
            cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, 1, cv2.LINE_AA)
    elif draw < 0.75:
        for points, filled in outline(SHAPES[int(rng.integers(len(SHAPES)))]):
            fixed = np.round((points * side * 0.8 + (x, y)) * 16).astype(np.int32)
            inside = colour if filled else tuple(255 - c for c in colour)
            cv2.fillPoly(image, [fixed], inside, cv2.LINE_8, 4)
    else:
        for _ in range(int(rng.integers(2, 6))):
            a, b = rng.normal(0, 0.5, (2, 2)) * side + (x, y)
            tint = tuple(map(float, muted_colour(rng, 1.0)))
            cv2.rectangle(image, (int(a[0]), int(a[1])), (int(b[0]), int(b[1])), tint, -1)


def draw_folds(rng: Generator, size: int) -> np.ndarray:
    """Brightness of the cloth: soft noise, creases, light from one side; (size, size)."""
    x, y = grid(size)
    strength = rng.uniform(0.05, 0.5)
    light = 1 + strength * (smooth_noise(rng, size, int(rng.integers(3, 9))) - 0.5)
    light = light + 0.5 * strength * (smooth_noise(rng, size, 16) - 0.5)
    if rng.random() < 0.7:  # creases in one main direction
        angle, frequency = rng.uniform(0, np.pi), rng.uniform(6, 30)
        bend = 1.5 * smooth_noise(rng, size, 4)
        wave = np.sin(frequency * (x * np.cos(angle) + y * np.sin(angle)) + 3 * bend)
        light = light + 0.25 * strength * wave * smooth_noise(rng, size, 4)
    if rng.random() < 0.5:
        light = light + rng.uniform(0, 0.12) * (smooth_noise(rng, size, size // 2) - 0.5)
    angle = rng.uniform(0, 2 * np.pi)
    return light + np.float32(rng.uniform(0, 0.15)) * (x * np.cos(angle) + y * np.sin(angle))
