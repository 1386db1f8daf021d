"""Draws concepts onto backgrounds and returns the picture with tight boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from .backgrounds import ALL_BACKGROUNDS, BACKGROUNDS, spread
from .sprites import PALETTE, Box, Sprite, Tones, draw_sprite
from .world import DIAMETERS, Concept

# Pixels per cell of the coarse copy of the background in which contrast is checked.
_CELL = 8


@dataclass(frozen=True)
class Style:
    """How scenes look.

    Args:
        backgrounds: names in ``ALL_BACKGROUNDS`` to choose from.
        palette: colour name to (fill, second tone).
        diameters: size name to (smallest, largest) diameter in pixels.
        max_angle: largest rotation to either side, degrees.
        max_overlap: largest overlap of a box with all others in sum; two boxes overlap by their
            intersection over the smaller area.
        min_contrast: least RGB distance between the fill and the background beneath, on average
            over the box; half of it anywhere.
        colour_jitter: largest change of a colour channel, per object.
        shading: largest relative change of brightness across an object.
        noise: largest standard deviation of the pixel noise.
        shadow: probability of a soft shadow beneath the objects of a scene.
        blur: probability that the whole picture is slightly out of focus.
        light: smallest and largest factor on the brightness of the whole picture.
        grey_range: where given, the background is grey and its brightness is squeezed into this
            range.
    """

    backgrounds: tuple[str, ...] = tuple(BACKGROUNDS)
    palette: tuple[tuple[str, Tones], ...] = tuple(PALETTE.items())
    diameters: tuple[tuple[str, tuple[float, float]], ...] = tuple(DIAMETERS.items())
    max_angle: float = 25.0
    max_overlap: float = 0.2
    min_contrast: float = 80.0
    colour_jitter: float = 9.0
    shading: float = 0.12
    noise: float = 8.0
    shadow: float = 0.4
    blur: float = 0.15
    light: tuple[float, float] = (0.92, 1.06)
    grey_range: tuple[float, float] | None = None


@dataclass(frozen=True)
class Scene:
    """A picture and what is in it.

    Args:
        image: (H, W, 3) uint8, RGB.
        objects: the concept of every object, with its size.
        boxes: (N, 4) float32, x1 y1 x2 y2 in pixels; x2 and y2 are one past the last pixel.
    """

    image: np.ndarray
    objects: tuple[Concept, ...]
    boxes: np.ndarray


def _overlaps(box: Box, others: Sequence[Box]) -> list[float]:
    """Intersection of ``box`` with each of ``others``, relative to the smaller area of the two."""
    shares = []
    x1, y1, x2, y2 = box
    for u1, v1, u2, v2 in others:
        width, height = max(0, min(x2, u2) - max(x1, u1)), max(0, min(y2, v2) - max(y1, v1))
        shares.append(width * height / min((x2 - x1) * (y2 - y1), (u2 - u1) * (v2 - v1)))
    return shares


class _Layout:
    """The boxes placed so far, and how much each of them overlaps the others in sum."""

    def __init__(self, max_overlap: float) -> None:
        self.max_overlap = max_overlap
        self.boxes: list[Box] = []
        self.totals: list[float] = []

    def add(self, box: Box) -> bool:
        """Add ``box`` unless a sum of overlaps, its own or that of another box, would exceed the
        limit.
        """
        shares = _overlaps(box, self.boxes)
        totals = [total + share for total, share in zip(self.totals, shares, strict=True)] + [
            sum(shares)
        ]
        if max(totals) > self.max_overlap:
            return False
        self.boxes, self.totals = [*self.boxes, box], totals
        return True


class SceneRenderer:
    """Draws scenes in one style.

    Args:
        image_size: side of the square picture, pixels.
        style: how scenes look.

    Raises:
        ValueError: the largest objects do not fit the picture.
    """

    def __init__(self, image_size: int = 224, style: Style | None = None) -> None:
        self.image_size = image_size
        self.style = style or Style()
        self.palette = dict(self.style.palette)
        self.diameters = dict(self.style.diameters)
        largest = max(high for _, high in self.diameters.values())
        if largest * np.sqrt(2) > image_size:
            raise ValueError(
                f"objects of {largest:g} pixels in diameter do not fit a picture of {image_size}"
                " pixels at every angle; use an image size of at least"
                f" {int(np.ceil(largest * np.sqrt(2)))}, or smaller diameters"
            )

    def render(self, concepts: Sequence[Concept], rng: np.random.Generator) -> Scene:
        """Draw one object per concept; concepts that find no place, or no contrast, are left out.

        Args:
            concepts: shape, colour and texture of each object, and a size or None for any.
            rng: source of all chance.

        Returns:
            A scene with at most ``len(concepts)`` objects, in drawing order.
        """
        canvas = self._background(rng)
        cells = -(-self.image_size // _CELL)
        coarse = cv2.resize(canvas, (cells, cells), interpolation=cv2.INTER_AREA)
        with_shadow = rng.random() < self.style.shadow
        objects: list[Concept] = []
        layout = _Layout(self.style.max_overlap)
        for concept in concepts:
            concept = self._with_size(concept, rng)
            sprite = self._sprite(concept, rng)
            box = self._place(sprite, coarse, layout, rng)
            if box is not None:
                self._draw(canvas, sprite, box, with_shadow)
                objects.append(concept)
        return Scene(
            image=self._finish(canvas, rng),
            objects=tuple(objects),
            boxes=np.array(layout.boxes, dtype=np.float32).reshape(-1, 4),
        )

    def _background(self, rng: np.random.Generator) -> np.ndarray:
        """(H, W, 3) float32 in 0..255."""
        kinds = self.style.backgrounds
        image = ALL_BACKGROUNDS[kinds[int(rng.integers(len(kinds)))]](rng, self.image_size)
        if self.style.grey_range is not None:
            low, high = self.style.grey_range
            image = spread(np.float32(low) + image.mean(axis=2) * np.float32((high - low) / 255))
        return np.ascontiguousarray(np.clip(image, 0, 255), dtype=np.float32)

    def _with_size(self, concept: Concept, rng: np.random.Generator) -> Concept:
        if concept.size is not None:
            return concept
        names = list(self.diameters)
        return replace(concept, size=names[int(rng.integers(len(names)))])

    def _sprite(self, concept: Concept, rng: np.random.Generator) -> Sprite:
        """Choose diameter, angle and tones within the style, and draw ``concept`` on a canvas of
        its own.
        """
        style = self.style
        diameter = rng.uniform(*self.diameters[concept.size])
        angle = np.deg2rad(rng.uniform(-style.max_angle, style.max_angle))
        jitter = rng.uniform(-style.colour_jitter, style.colour_jitter, 3)
        fill, second = (
            np.clip(np.array(tone) + jitter, 0, 255) for tone in self.palette[concept.colour]
        )
        return draw_sprite(
            concept, (tuple(fill), tuple(second)), diameter, angle, style.shading, rng
        )

    def _place(
        self, sprite: Sprite, coarse: np.ndarray, layout: _Layout, rng: np.random.Generator
    ) -> Box | None:
        """A box for ``sprite`` with little overlap and enough contrast, or None if none is
        found.
        """
        width, height = sprite.size
        for _ in range(20):
            x1 = int(rng.integers(0, self.image_size - width + 1))
            y1 = int(rng.integers(0, self.image_size - height + 1))
            box = (x1, y1, x1 + width, y1 + height)
            beneath = coarse[y1 // _CELL : -(-box[3] // _CELL), x1 // _CELL : -(-box[2] // _CELL)]
            distance = np.sqrt(((beneath - sprite.fill) ** 2).sum(axis=-1))
            least = self.style.min_contrast
            if distance.mean() >= least and distance.min() >= least / 2 and layout.add(box):
                return box
        return None

    def _draw(self, canvas: np.ndarray, sprite: Sprite, box: Box, with_shadow: bool) -> None:
        if with_shadow:
            shift = max(2, max(sprite.size) // 14)
            shadow = cv2.copyMakeBorder(sprite.mask, *(4 * (shift,)), cv2.BORDER_CONSTANT, value=0)
            shadow = cv2.blur(shadow, (2 * shift + 1, 2 * shift + 1)) * np.float32(0.45)
            # Padded by `shift` and moved by `shift`: the corner stays.
            self._blend(
                canvas, (box[0] - 1, box[1] - 1), shadow, np.zeros((*shadow.shape, 3), np.float32)
            )
        self._blend(canvas, (box[0] - 1, box[1] - 1), sprite.mask, sprite.colour)

    @staticmethod
    def _blend(
        canvas: np.ndarray, corner: tuple[int, int], alpha: np.ndarray, colour: np.ndarray
    ) -> None:
        """Lay ``colour`` over ``canvas`` at ``corner`` (x, y), cut off at the borders."""
        (x, y), (height, width) = corner, alpha.shape
        left, top = max(x, 0), max(y, 0)
        right, bottom = min(x + width, canvas.shape[1]), min(y + height, canvas.shape[0])
        source = (slice(top - y, bottom - y), slice(left - x, right - x))
        target = canvas[top:bottom, left:right]
        target += spread(alpha[source]) * (colour[source] - target)

    def _finish(self, canvas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Light, focus and pixel noise of the whole picture; (H, W, 3) uint8."""
        if rng.random() < self.style.blur:
            canvas = cv2.GaussianBlur(canvas, (3, 3), 0)
        noise = rng.standard_normal(canvas.shape[:2], dtype=np.float32)
        deviation, light = rng.uniform(0, self.style.noise), rng.uniform(*self.style.light)
        # Rounds and saturates.
        return cv2.addWeighted(canvas, light, spread(noise), deviation, 0.0, dtype=cv2.CV_8U)
