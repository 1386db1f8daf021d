"""Backgrounds of the procedural scenes: one function per kind, (rng, size) to (size, size, 3)
float32 RGB.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable

import cv2
import numpy as np

Generator = np.random.Generator


def muted_colour(rng: Generator, saturation: float = 0.55) -> np.ndarray:
    """A random colour that is not too saturated, (3,) float32 RGB."""
    hue, s, v = rng.random(), rng.random() * saturation, rng.uniform(0.15, 0.97)
    return np.array(colorsys.hsv_to_rgb(hue, s, v), dtype=np.float32) * 255


def grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixel coordinates x (1, size) and y (size, 1) in [-1, 1]."""
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    return axis[None, :], axis[:, None]


def mix(weight: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """From colour ``first`` (weight 0) to colour ``second`` (weight 1): (h, w) to (h, w, 3)
    float32.
    """
    # Plane by plane: NumPy is slow where the innermost axis has length three.
    return cv2.merge([weight * float(b - a) + float(a) for a, b in zip(first, second, strict=True)])


def spread(plane: np.ndarray) -> np.ndarray:
    """The same plane in three channels: (h, w) to (h, w, 3)."""
    return cv2.merge([plane, plane, plane])


def smooth_noise(rng: Generator, size: int, cells: int, channels: int = 1) -> np.ndarray:
    """Random values about in [0, 1] on a coarse grid, interpolated; (size, size[, channels])."""
    coarse = rng.random((cells, cells, channels), dtype=np.float32)
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)


def flat(rng: Generator, size: int) -> np.ndarray:
    """One colour."""
    return np.full((size, size, 3), muted_colour(rng), dtype=np.float32)


def gradient(rng: Generator, size: int) -> np.ndarray:
    """A linear change from one colour to another."""
    x, y = grid(size)
    angle = rng.uniform(0, 2 * np.pi)
    weight = np.clip((x * np.cos(angle) + y * np.sin(angle)) * 0.5 + 0.5, 0, 1)
    return mix(weight, muted_colour(rng), muted_colour(rng))


def cloudy(rng: Generator, size: int) -> np.ndarray:
    """Noise of several frequencies between two colours."""
    weight = (
        smooth_noise(rng, size, 4)
        + 0.5 * smooth_noise(rng, size, 12)
        + 0.25 * smooth_noise(rng, size, 40)
    )
    return mix(np.clip(weight / 1.75, 0, 1), muted_colour(rng), muted_colour(rng))


def grainy(rng: Generator, size: int) -> np.ndarray:
    """Fine noise, as of sand or asphalt."""
    fine = smooth_noise(rng, size, size // 2) - 0.5 + 0.5 * (smooth_noise(rng, size, 6) - 0.5)
    colour = muted_colour(rng)
    return mix(fine, colour, colour + np.float32(rng.uniform(15, 50)))


def blobs(rng: Generator, size: int) -> np.ndarray:
    """Soft round spots of several colours."""
    image = flat(rng, size)
    for _ in range(int(rng.integers(3, 8))):
        centre = tuple(int(value) for value in rng.integers(0, size, 2))
        axes = tuple(int(value) for value in rng.integers(size // 12, size // 3, 2))
        colour = muted_colour(rng)
        cv2.ellipse(image, centre, axes, rng.uniform(0, 180), 0, 360, tuple(map(float, colour)), -1)
    width = int(rng.integers(2, 9)) * 2 + 1
    return cv2.blur(cv2.blur(image, (width, width)), (width, width))


def stripes(rng: Generator, size: int) -> np.ndarray:
    """Wide soft stripes of two similar colours."""
    x, y = grid(size)
    angle, frequency, phase = rng.uniform(0, np.pi), rng.uniform(4, 14), rng.uniform(0, 6)
    wave = np.sin(frequency * (x * np.cos(angle) + y * np.sin(angle)) + phase)
    first = muted_colour(rng)
    second = np.clip(first + rng.uniform(-60, 60, 3).astype(np.float32), 0, 255)
    return mix(np.clip(wave * 2 + 0.5, 0, 1), first, second)


def planks(rng: Generator, size: int) -> np.ndarray:
    """Boards or bricks: a grid of slightly different rectangles."""
    rows, columns = (int(value) for value in rng.integers(2, 9, 2))
    offsets = rng.uniform(-22, 22, (rows, columns, 1)).astype(np.float32)
    tiles = muted_colour(rng) + offsets
    boards = cv2.resize(tiles, (size, size), interpolation=cv2.INTER_NEAREST)
    return boards + spread(12 * (smooth_noise(rng, size, 60) - 0.5))


def photo(rng: Generator, size: int) -> np.ndarray:
    """Something like a photograph out of focus: coloured low frequencies, a horizon, a vignette."""
    image = mix(smooth_noise(rng, size, 3), muted_colour(rng) - 50, muted_colour(rng) - 50)
    image += smooth_noise(rng, size, 7, 3) * 70 + smooth_noise(rng, size, 30, 3) * 30
    x, y = grid(size)
    if rng.random() < 0.6:
        tilt, height, softness = rng.uniform(-0.3, 0.3), rng.uniform(-0.4, 0.5), rng.uniform(3, 30)
        below = np.clip((y - tilt * x - height) * softness, 0, 1)
        image = image + spread(below * np.float32(0.7)) * (
            np.full_like(image, muted_colour(rng)) - image
        )
    return image * spread(1 - rng.uniform(0, 0.35) * (x**2 + y**2) / 2)


def mosaic(rng: Generator, size: int) -> np.ndarray:
    """Angular cells of strong colours."""
    count = int(rng.integers(15, 45))
    points = rng.uniform(0, size, (count, 2)).astype(np.float32)
    axis = np.arange(size, dtype=np.float32)
    distance = (axis[None, :, None] - points[:, 0]) ** 2 + (axis[:, None, None] - points[:, 1]) ** 2
    colours = np.stack([muted_colour(rng, saturation=1.0) for _ in range(count)])
    return colours[distance.argmin(axis=2)]


def ripples(rng: Generator, size: int) -> np.ndarray:
    """Rings around a point, between two strong colours."""
    x, y = grid(size)
    radius = np.hypot(x - rng.uniform(-1, 1), y - rng.uniform(-1, 1))
    weight = np.sin(radius * rng.uniform(12, 40)).astype(np.float32) * np.float32(0.5) + np.float32(
        0.5
    )
    return mix(weight, muted_colour(rng, saturation=1.0), muted_colour(rng, saturation=1.0))


def scribble(rng: Generator, size: int) -> np.ndarray:
    """Many thin lines of strong colours."""
    image = flat(rng, size)
    for _ in range(int(rng.integers(20, 60))):
        (x1, y1), (x2, y2) = rng.integers(0, size, (2, 2)).tolist()
        colour = tuple(map(float, muted_colour(rng, saturation=1.0)))
        cv2.line(image, (x1, y1), (x2, y2), colour, int(rng.integers(1, 5)), cv2.LINE_8)
    return image


BACKGROUNDS: dict[str, Callable[[Generator, int], np.ndarray]] = {
    "flat": flat,
    "gradient": gradient,
    "cloudy": cloudy,
    "grainy": grainy,
    "blobs": blobs,
    "stripes": stripes,
    "planks": planks,
    "photo": photo,
}

# Never used in pre-training.
NEW_BACKGROUNDS: dict[str, Callable[[Generator, int], np.ndarray]] = {
    "mosaic": mosaic,
    "ripples": ripples,
    "scribble": scribble,
}
ALL_BACKGROUNDS = {**BACKGROUNDS, **NEW_BACKGROUNDS}
