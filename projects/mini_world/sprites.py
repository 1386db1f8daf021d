"""A single object: its tones, its texture and its picture on a canvas of its own."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .backgrounds import mix, spread
from .shapes import shape_mask
from .world import Concept

Tones = tuple[tuple[int, int, int], tuple[int, int, int]]
Box = tuple[int, int, int, int]

# Fill and second tone (of stripes, dots, ...), RGB. The second tone stays within the colour's own
# family, so that the colour of an object remains clear whatever its texture.
PALETTE: dict[str, Tones] = {
    "red": ((222, 28, 36), (112, 2, 12)),
    "orange": ((252, 134, 16), (255, 214, 150)),
    "yellow": ((250, 226, 40), (158, 134, 0)),
    "green": ((44, 168, 62), (8, 78, 28)),
    "cyan": ((48, 218, 226), (0, 118, 132)),
    "blue": ((38, 78, 224), (150, 176, 255)),
    "purple": ((138, 46, 188), (64, 10, 98)),
    "pink": ((255, 128, 186), (255, 224, 240)),
    "brown": ((122, 72, 34), (62, 32, 10)),
    "white": ((246, 246, 246), (176, 180, 184)),
    "black": ((18, 18, 20), (98, 98, 102)),
    "grey": ((138, 140, 142), (72, 74, 76)),
}


@dataclass(frozen=True)
class Sprite:
    """An object on a canvas of its own, with a margin of one pixel around its box.

    Args:
        mask: (h + 2, w + 2) float32 coverage in [0, 1].
        colour: (h + 2, w + 2, 3) float32 RGB.
        fill: (3,) RGB of its first tone.
    """

    mask: np.ndarray
    colour: np.ndarray
    fill: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        """(w, h) of its box."""
        return self.mask.shape[1] - 2, self.mask.shape[0] - 2


def texture_weight(
    texture: str, u: np.ndarray, v: np.ndarray, mask: np.ndarray, diameter: float
) -> np.ndarray:
    """How much of the second tone every pixel shows.

    Args:
        texture: name of the texture.
        u: (h, w) coordinates along the object, pixels from its centre.
        v: (h, w) coordinates across the object, pixels from its centre.
        mask: (h, w) coverage.
        diameter: of the object, pixels.

    Returns:
        (h, w) float32 in [0, 1].

    Raises:
        ValueError: no such texture.
    """
    if texture == "plain":
        return np.zeros_like(mask)
    if texture == "outlined":
        inside = cv2.copyMakeBorder(
            (mask > 0.5).astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0
        )
        distance = cv2.distanceTransform(inside, cv2.DIST_L2, 3)[1:-1, 1:-1]
        return np.clip(max(1.6, 0.07 * diameter) - distance + 0.8, 0, 1)
    # At least three pixels for a light and three for a dark part, at most four periods across the
    # object.
    period = max(6.0, diameter / 4)
    if texture == "striped":
        return np.clip(np.sin(2 * np.pi / period * u) * period / 4 + 0.5, 0, 1)
    if texture == "checkered":
        wave = np.sin(np.pi / period * 1.25 * u) * np.sin(np.pi / period * 1.25 * v)
        return np.clip(wave * period / 2 + 0.5, 0, 1)
    if texture == "dotted":
        radius = np.hypot(
            (u + period / 2) % period - period / 2, (v + period / 2) % period - period / 2
        )
        return np.clip(0.29 * period - radius + 0.5, 0, 1)
    raise ValueError(f"unknown texture {texture!r}")


def box_of(mask: np.ndarray) -> Box:
    """Tight box of the pixels that are covered by more than half: x1, y1, and one past the last x
    and y.
    """
    covered = mask > 0.5
    columns, rows = np.flatnonzero(covered.any(axis=0)), np.flatnonzero(covered.any(axis=1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def draw_sprite(
    concept: Concept,
    tones: Tones,
    diameter: float,
    angle: float,
    shading: float,
    rng: np.random.Generator,
) -> Sprite:
    """Draw one object.

    Args:
        concept: what to draw; shape and texture are used.
        tones: RGB fill and second tone.
        diameter: longer side before rotation, pixels.
        angle: rotation, radians.
        shading: relative change of brightness from the centre to the rim.
        rng: source of the position within a pixel and the direction of light.

    Returns:
        The sprite, cut to its box and a margin.
    """
    offset = rng.uniform(-0.5, 0.5, 2)
    # Room for every rotation of a square, and the margin.
    side = int(np.ceil(diameter * 1.45)) + 4
    mask = shape_mask(concept.shape, diameter, angle, (offset[0], offset[1]), side)
    x1, y1, x2, y2 = box_of(mask)
    rows, columns = slice(y1 - 1, y2 + 1), slice(x1 - 1, x2 + 1)
    mask = np.ascontiguousarray(mask[rows, columns])

    axis = np.arange(side, dtype=np.float32) + np.float32(0.5 - side / 2)
    x, y = axis[None, columns] - np.float32(offset[0]), axis[rows, None] - np.float32(offset[1])
    turn = angle + (np.pi / 4 if concept.texture == "striped" else 0.0)
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    weight = texture_weight(concept.texture, x * cos + y * sin, y * cos - x * sin, mask, diameter)
    towards = rng.uniform(0, 2 * np.pi)
    slope = shading / (diameter / 2)
    light = 1 + x * np.float32(slope * np.cos(towards)) + y * np.float32(slope * np.sin(towards))
    fill, second = np.array(tones[0], dtype=float), np.array(tones[1], dtype=float)
    return Sprite(mask, mix(weight.astype(np.float32), fill, second) * spread(light), fill)
