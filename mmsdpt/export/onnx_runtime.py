"""Use an exported model without PyTorch and OpenMMLab.

This file needs only numpy, Pillow and onnxruntime: copy it to the folder of the model.

    from onnx_runtime import OnnxModel

    model = OnnxModel("model.onnx")
    boxes = model("photo.jpg")
"""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image

FORMAT = "2"
# Image modes with more than 8 bits.
_DEEP_MODES = frozenset({"I", "F", "I;16", "I;16B", "I;16L", "I;16N"})
_EXIF_ORIENTATION = 0x0112
_ROTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class OnnxModel:
    """A detector or classifier from a file that ``tools/export_onnx.py`` wrote.

    Args:
        path: The file.
        threads: Number of onnxruntime's threads; None: one per core.
        providers: Providers of onnxruntime, such as ``["CUDAExecutionProvider"]``.

    Attributes:
        classes: The class names.
        detects: Whether it is a detector.

    Raises:
        ValueError: if the file was not written by this version's exporter.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        threads: int | None = None,
        providers: list[str] | None = None,
    ) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        self.session = onnxruntime.InferenceSession(
            os.fspath(path), options, providers=providers or ["CPUExecutionProvider"]
        )
        facts = self.session.get_modelmeta().custom_metadata_map
        if facts.get("mmsdpt_format") != FORMAT:
            raise ValueError(f"{path} was not written by tools/export_onnx.py of this version")
        self.classes: list[str] = json.loads(facts["classes"])
        self.resize: dict[str, Any] = json.loads(facts["resize"])
        self.reading: dict[str, Any] = json.loads(facts["reading"])
        self.detects = facts["kind"] == "detector"

    def __call__(self, image: Any, threshold: float = 0.3) -> list[tuple]:
        """Detect or classify.

        Args:
            image: A path, a PIL image, or an array (H, W, 3) in RGB or (H, W). Only files are
                rotated by their EXIF orientation, and only if the model's pipeline does so (GLIP's
                does, CLIP's does not).
            threshold: Minimum score of a box.

        Returns:
            For a detector (name, score, (x1, y1, x2, y2) in pixels), best first; for a classifier
            (name, probability) of every class, best first.
        """
        picture = self._open(image)
        if self.detects:
            boxes, scores, labels = self.boxes(picture)
            return [
                (self.classes[label], float(score), tuple(map(float, box)))
                for box, score, label in zip(boxes, scores, labels, strict=True)
                if score >= threshold
            ]
        scores = self.probabilities([picture])[0]
        return [(self.classes[i], float(scores[i])) for i in np.argsort(-scores, kind="stable")]

    def boxes(self, image: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes (n, 4) xyxy, scores (n,) and labels (n,) of an image, best first."""
        picture = self._open(image)
        feed = dict(
            image=np.asarray(self._resized(picture)),
            original_size=np.array([picture.height, picture.width], dtype=np.int64),
        )
        boxes, scores, labels = self.session.run(["boxes", "scores", "labels"], feed)
        return boxes, scores, labels

    def probabilities(self, images: Any) -> np.ndarray:
        """Probabilities (B, C) of B images."""
        crops = np.stack([np.asarray(self._cropped(self._open(image))) for image in images])
        (scores,) = self.session.run(["scores"], dict(images=crops))
        return scores

    def _open(self, image: Any) -> Image.Image:
        """The image in RGB; files are read as in the model's pipeline."""
        if isinstance(image, np.ndarray):
            image = Image.fromarray(image)
        if isinstance(image, Image.Image):
            return to_rgb(image)
        # Not from its path: Pillow would then convert 16-bit TIFF files differently.
        with open(image, "rb") as file, Image.open(file) as opened:
            if self.reading["upright"] and opened.mode not in _DEEP_MODES:
                opened = _upright(opened)
            if self.reading["canvas"] and opened.mode == "LA":
                canvas = Image.new("RGB", opened.size, tuple(self.reading["canvas"]))
                canvas.paste(opened.convert("RGB"), mask=opened.getchannel("A"))
                return canvas
            return to_rgb(opened)

    def _resized(self, image: Image.Image) -> Image.Image:
        """Resize to fit into the two sides, in either orientation."""
        short, long = sorted(self.resize["within"])
        width, height = image.size
        factor = min(long / max(width, height), short / min(width, height))
        size = int(width * factor), int(height * factor)
        return image.resize(size, Image.Resampling.BILINEAR)

    def _cropped(self, image: Image.Image) -> Image.Image:
        """Resize the short side, then crop the centre square."""
        side = self.resize["side"]
        width, height = image.size
        if width < height:
            size = side, int(side * height / width)
        else:
            size = int(side * width / height), side
        image = image.resize(size, Image.Resampling.BICUBIC)
        left, top = round((size[0] - side) / 2), round((size[1] - side) / 2)
        return image.crop((left, top, left + side, top + side))


def _upright(image: Image.Image) -> Image.Image:
    """The image, rotated by its EXIF orientation. Pillow's ``exif_transpose`` also rewrites all
    other EXIF tags, and fails if one of them is damaged.
    """
    image.load()  # rotates a TIFF file and says so
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION)
    except Exception:  # Pillow raises many kinds
        return image
    return image.transpose(_ROTATIONS[orientation]) if orientation in _ROTATIONS else image


def to_rgb(image: Image.Image) -> Image.Image:
    """A copy of ``mmsdpt.datasets.image_files.to_rgb``, because this file must not need mmsdpt.

    Raises:
        ValueError: if a value is not finite.
    """
    if image.mode not in _DEEP_MODES:
        return image.convert("RGB")
    values = np.asarray(image, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError("the image has values that are not finite")
    low, high = values.min(), values.max()
    if image.mode == "F" and low >= 0 and 0 < high <= 1:
        low, high = 0.0, 1.0
    elif low >= 0 and high <= 255:
        low, high = 0.0, 255.0
    grey = (values - low) * (255 / max(high - low, 1e-12))
    return Image.fromarray(grey.round().clip(0, 255).astype(np.uint8)).convert("RGB")
