"""Pictures of drawn garments on drawn beds and floors, with light, folds, prints and blur."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator

from .backgrounds import BACKGROUNDS, grid, mix, muted_colour, smooth_noise, spread
from .garments import GARMENTS, Layer
from .shapes import outline
from .world import SHAPES

_BITS = 4  # of the fraction of a pixel in OpenCV's coordinates
_CANVAS = 2  # supersampling of outlines

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
_COLOUR_NAMES = tuple(FABRIC_COLOURS)
_COLOUR_ODDS = np.cumsum([odds for _, odds in FABRIC_COLOURS.values()])
_KINDS = tuple(GARMENTS)
_KIND_ODDS = np.cumsum([odds for _, _, odds in GARMENTS.values()])

FABRICS = ("plain", "striped", "checkered", "dotted", "floral", "mottled")
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


def _choose(names: tuple[str, ...], odds: np.ndarray, rng: Generator) -> str:
    return names[int(np.searchsorted(odds, rng.random() * odds[-1], side="right"))]


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
    _spots(image, rng, int(rng.integers(8, 40)), rng.uniform(0.02, 0.1) * size)
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


def _spots(image: np.ndarray, rng: Generator, count: int, radius: float) -> None:
    """Soft-coloured blossoms at random places, in place."""
    size = image.shape[0]
    colours = [tuple(map(float, muted_colour(rng, 1.0))) for _ in range(int(rng.integers(1, 4)))]
    places = rng.uniform(0, size, (count, 2)) * 16
    radii = rng.uniform(0.4, 1.4, (count, 2)) * radius * 16
    for k in range(count):
        cv2.ellipse(
            image,
            (int(places[k, 0]), int(places[k, 1])),
            (int(radii[k, 0]), int(radii[k, 1])),
            float(radii[k, 0] * 7),
            0,
            360,
            colours[k % len(colours)],
            -1,
            cv2.LINE_8,
            4,
        )


def _surface(rng: Generator, size: int, tone: np.ndarray) -> tuple[np.ndarray, str]:
    for _ in range(3):
        if rng.random() < 0.08:
            kinds = tuple(BACKGROUNDS)
            name = "background"
            image = BACKGROUNDS[kinds[int(rng.integers(len(kinds)))]](rng, size)
        else:
            name = _choose(_SURFACE_NAMES, _SURFACE_ODDS, rng)
            image = _SURFACES[name](rng, size)
        if np.linalg.norm(image[::8, ::8].mean(axis=(0, 1)) - tone) > _LEAST_CONTRAST:
            break
    return np.ascontiguousarray(image, dtype=np.float32), name


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


def _fabric(
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
        _spots(image, rng, int(rng.integers(20, 90)), rng.uniform(0.015, 0.05) * size)
    return image


def _print(image: np.ndarray, rng: Generator, centre: np.ndarray, unit: float) -> None:
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


def _folds(rng: Generator, size: int) -> np.ndarray:
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
        _print(image, rng, np.concatenate(silhouettes).mean(0), unit)
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


def draw_garment(rng: Generator, size: int, kind: str | None = None) -> GarmentPicture:
    """Draw one garment on a surface.

    Args:
        rng: source of all chance.
        size: side of the picture, pixels.
        kind: key of ``GARMENTS``; None for any.

    Returns:
        The picture and what is true of it.
    """
    kind = kind or _choose(_KINDS, _KIND_ODDS, rng)
    layers = GARMENTS[kind][0](rng)
    colour = _choose(_COLOUR_NAMES, _COLOUR_ODDS, rng)
    fabric = _choose(FABRICS, _FABRIC_ODDS, rng)
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
    cloth = cv2.resize(_fabric(fabric, tone, second, rng, size), (large, large))
    odds = 0.45 if kind in ("t-shirt", "longsleeve", "hoodie", "cap") else 0.08
    printed = bool(rng.random() < odds)
    image, mask = _paint(layers, points, unit, cloth, tones, printed, rng)
    # Weighted by the mask before shrinking: no colour bleeds over the outline.
    alpha = cv2.resize(mask, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
    image = image * spread(np.float32(_folds(rng, size)))
    canvas, surface = _surface(rng, size, tone)
    if rng.random() < 0.2:
        _clutter(canvas, rng)
    if rng.random() < 0.7:
        blur = int(rng.integers(1, 4)) * 2 + 1
        shadow = cv2.blur(alpha, (blur, blur)) * np.float32(rng.uniform(0.15, 0.6))
        move = np.float32([[1, 0, rng.uniform(-3, 3)], [0, 1, rng.uniform(-1, 3)]])
        canvas = canvas * spread(1 - cv2.warpAffine(shadow, move, (size, size)))
    canvas += spread(alpha) * (image - canvas)
    return GarmentPicture(_camera(canvas, rng), kind, colour, fabric, surface, printed)


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
