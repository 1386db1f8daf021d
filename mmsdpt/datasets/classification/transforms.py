"""Decode images as CLIP's reference code does."""

from __future__ import annotations

import numpy as np
from mmcv.transforms import BaseTransform

from mmsdpt.datasets.image_files import UnreadableImage, open_image, read_bytes, to_rgb
from mmsdpt.registry import TRANSFORMS
from mmsdpt.utils.errors import InputError


@TRANSFORMS.register_module()
class LoadPillowImage(BaseTransform):
    """Load the pixels of ``PIL.Image.open(path).convert("RGB")``, as CoOp and its successors do.

    MMCV's ``LoadImageFromFile`` with ``imdecode_backend="pillow"`` differs in two cases: it rotates
    the image by its EXIF orientation (unless ``color_type="color_ignore_orientation"``), and it
    uses another background for grey images with transparency.

    Unlike Pillow, it scales 16-bit and floating-point pixels to grey levels instead of clipping
    them.

    Required keys: ``img_path``. Added keys: ``img`` (H, W, 3), uint8 in the order BGR that
    MMPreTrain's transforms and ``to_rgb=True`` of its data preprocessors expect; ``img_shape`` and
    ``ori_shape``, (H, W).
    """

    def transform(self, results: dict) -> dict:
        """Add the image.

        Raises:
            InputError: if the file is missing or cannot be decoded.
        """
        try:
            with open_image(read_bytes(results["img_path"])) as image:
                rgb = np.asarray(to_rgb(image))
        except UnreadableImage as error:
            raise InputError(
                f"the image {results['img_path']} cannot be read ({error}); replace the file or "
                "leave it out"
            ) from error
        results["img"] = np.ascontiguousarray(rgb[..., ::-1])
        results["img_shape"] = results["ori_shape"] = rgb.shape[:2]
        return results

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"
