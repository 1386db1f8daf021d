"""Draw the data sets of ``configs/_base_/datasets/clip_drawn_*_64px.py``: a folder per class.

``python tools/draw_class_folders.py data`` writes ``data/drawn_clothes`` and
``data/drawn_things``. The pictures are the same on every machine; a set that is there is kept.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

COUNTS = dict(train=24, val=4, test=40)  # pictures of each class


def grey(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Without colours. (H, W, 3) uint8, as below."""
    return np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)


def blurred(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Out of focus, with the noise of little light."""
    soft = cv2.GaussianBlur(image, (0, 0), sigmaX=3.5)
    return np.clip(soft + rng.normal(0, 60, image.shape), 0, 255).astype(np.uint8)


# By name: the classes, and how the pictures differ from those of pre-training.
SETS: dict[str, tuple[tuple[str, ...], Callable[..., np.ndarray]]] = {
    # Kinds of clothes that are none of the ten classes of the photographs.
    "drawn_clothes": (("bag", "beanie", "glove", "hoodie", "polo shirt", "tank top"), grey),
    # Combinations held out of pre-training, see world.py.
    "drawn_things": (
        (
            *("checkered brown flower", "checkered brown heart", "dotted grey triangle"),
            *("outlined grey bolt", "plain black circle", "striped black flower"),
        ),
        blurred,
    ),
}


def draw(name: str, root: Path) -> bool:
    """Write one of :data:`SETS` to ``root / name``, as a whole or not at all.

    Args:
        name: Of the set.
        root: Folder of all sets.

    Returns:
        Whether it was written; False where the folder is there already.
    """
    from projects.mini_world.caption_pairs import SceneCaptionDataset

    (classes, change), target = SETS[name], root / name
    if target.exists():
        return False
    root.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=root))
    try:
        for seed, (split, count) in enumerate(COUNTS.items(), start=2001):
            pictures = SceneCaptionDataset(count * len(classes), seed=seed, classes=classes)
            for i in range(len(pictures)):
                folder = work / "new" / split / classes[i % len(classes)].replace(" ", "_")
                folder.mkdir(parents=True, exist_ok=True)
                image = change(pictures.sample(i)[0], np.random.default_rng((seed, i)))
                # cv2.imwrite would only return False on a full disk.
                content = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
                (folder / f"{i // len(classes):03d}.png").write_bytes(content)
        os.replace(work / "new", target)
    finally:
        shutil.rmtree(work)
    return True
