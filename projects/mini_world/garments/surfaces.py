"""What garments lie on or hang before."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.random import Generator

from ..backgrounds import BACKGROUNDS, grid, mix, muted_colour, smooth_noise, spread
from .chance import choose, spots


def _sheet(rng: Generator, size: int) -> np.ndarray:
    """A sheet with creases: bright lines of folds at random angles."""
    x, y = grid(size)
    light = 1 + 0.25 * (smooth_noise(rng, size, 5) - 0.5)
    for _ in range(int(rng.integers(1, 6))):
        angle, place = rng.uniform(0, 2 * np.pi), rng.uniform(-1, 1)
        bend = rng.uniform(-0.5, 0.5)
        distance = x * np.cos(angle) + y * np.sin(angle) - place + bend * (x * y)
        wave = np.exp(-np.abs(distance) * rng.uniform(4, 25)) * np.sign(distance)
        light = light + np.float32(rng.uniform(0.03, 0.14)) * wave
    saturation = 1.0 if rng.random() < 0.5 else 0.25
    return np.full((size, size, 3), muted_colour(rng, saturation)) * spread(np.float32(light))


def _wood(rng: Generator, size: int) -> np.ndarray:
    """Boards with grain, along any direction, in brown, yellow or grey."""
    boards = int(rng.integers(3, 9))
    long = cv2.resize(rng.random((size, 4), dtype=np.float32), (size, size))
    tones = np.repeat(rng.uniform(-0.12, 0.12, boards), -(-size // boards))[:size]
    light = 1 + 0.3 * (long - 0.5) + tones[:, None]
    edges = (np.arange(size) % max(size // boards, 4)) == 0
    light[edges] *= rng.uniform(0.6, 0.95)
    if rng.random() < 0.5:
        light = light.T
    turn = cv2.getRotationMatrix2D((size / 2, size / 2), rng.uniform(-30, 30), 1.4)
    light = cv2.warpAffine(np.float32(light), turn, (size, size), borderMode=cv2.BORDER_REFLECT)
    base = np.array([(170, 120, 70), (205, 165, 100), (130, 125, 120), (100, 65, 45)], np.float32)
    colour = base[int(rng.integers(4))] * rng.uniform(0.7, 1.2) + rng.uniform(-15, 15, 3)
    return mix(light, np.zeros(3), colour)


def _tiles(rng: Generator, size: int) -> np.ndarray:
    """Tiles with joints."""
    side, width = int(rng.integers(size // 5, size)), int(rng.integers(1, 3))
    light = 1 + 0.15 * (smooth_noise(rng, size, 8) - 0.5)
    start = rng.integers(0, side, 2)
    for axis in range(2):
        lines = ((np.arange(size) + start[axis]) % side) < width
        light = light * np.where(lines, rng.uniform(0.65, 1.2), 1.0).reshape(
            (-1, 1) if axis else (1, -1)
        )
    turn = cv2.getRotationMatrix2D((size / 2, size / 2), rng.uniform(-45, 45), 1.5)
    light = cv2.warpAffine(np.float32(light), turn, (size, size), borderMode=cv2.BORDER_REFLECT)
    return mix(light, np.zeros(3), muted_colour(rng, 0.3))


def _carpet(rng: Generator, size: int) -> np.ndarray:
    """Coarse noise of one colour."""
    noise = smooth_noise(rng, size, size // 2) + 0.6 * smooth_noise(rng, size, 10) - 0.8
    return mix(1 + np.float32(rng.uniform(0.1, 0.5)) * noise, np.zeros(3), muted_colour(rng, 0.4))


def _flowered(rng: Generator, size: int) -> np.ndarray:
    """Bedding with a pattern of spots."""
    image = np.ascontiguousarray(_sheet(rng, size), dtype=np.float32)
    spots(image, rng, int(rng.integers(8, 40)), rng.uniform(0.02, 0.1) * size)
    return image


def _wall(rng: Generator, size: int) -> np.ndarray:
    """A plain wall, with light from one side; dark or bright."""
    x, y = grid(size)
    angle = rng.uniform(0, 2 * np.pi)
    light = 1 + rng.uniform(0, 0.3) * (x * np.cos(angle) + y * np.sin(angle))
    if rng.random() < 0.3:
        light = (
            np.where(x * np.cos(angle) + y * np.sin(angle) > rng.uniform(0.4, 1), 0.7, 1) * light
        )
    return mix(np.float32(light), np.zeros(3), muted_colour(rng, 0.35))


_SURFACES: dict[str, Callable[[Generator, int], np.ndarray]] = {
    "bed": _sheet,
    "floor": _wood,
    "tiles": _tiles,
    "carpet": _carpet,
    "blanket": _flowered,
    "wall": _wall,
}
_SURFACE_NAMES = tuple(_SURFACES)
_SURFACE_ODDS = np.cumsum([0.28, 0.2, 0.13, 0.14, 0.08, 0.17])
_LEAST_CONTRAST = 45.0  # RGB distance of fabric and surface; people seek a ground that shows it


def draw_surface(rng: Generator, size: int, tone: np.ndarray) -> tuple[np.ndarray, str]:
    """A surface, (size, size, 3) float32, on which a fabric of this colour shows, and its name."""
    for _ in range(3):
        if rng.random() < 0.08:
            kinds = tuple(BACKGROUNDS)
            name = "background"
            image = BACKGROUNDS[kinds[int(rng.integers(len(kinds)))]](rng, size)
        else:
            name = choose(_SURFACE_NAMES, _SURFACE_ODDS, rng)
            image = _SURFACES[name](rng, size)
        if np.linalg.norm(image[::8, ::8].mean(axis=(0, 1)) - tone) > _LEAST_CONTRAST:
            break
    return np.ascontiguousarray(image, dtype=np.float32), name
