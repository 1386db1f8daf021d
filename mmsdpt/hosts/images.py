"""Images whose pixels need not be loaded, because their features are cached."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor


class View(Protocol):
    """One fixed random view of an image, which can be loaded again."""

    digests: dict[tuple[int, ...], str]
    """Digests of the pixels as the host gets them, by their shape."""

    def pixels(self, shape: Sequence[int]) -> Tensor:
        """The pixels (3, H, W) as the host gets them."""


class KnownImages:
    """Images (B, 3, H, W) identified by digests; missing pixels are loaded when they are read.

    Args:
        images: The pixels; if those of a view are missing, only their shape is used.
        views: For each image None, or its view and whether its pixels are missing.
    """

    def __init__(self, images: Tensor, views: Sequence[tuple[View, bool] | None] = ()) -> None:
        self._images = images
        self._views = list(views) or [None] * len(images)
        self._keys: list[str] | None = None

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, chosen: Sequence[int]) -> KnownImages:
        """Some of the images."""
        part = KnownImages(self._images[chosen], [self._views[i] for i in chosen])
        part._keys = None if self._keys is None else [self._keys[i] for i in chosen]
        return part

    @property
    def device(self) -> torch.device:
        """Device of the pixels."""
        return self._images.device

    def pixels(self, chosen: Sequence[int] | None = None) -> Tensor:
        """Pixels of all images (B, 3, H, W), or of some (b, 3, H, W)."""
        chosen = range(len(self)) if chosen is None else chosen
        for i in chosen:
            view = self._views[i]
            if view is not None and view[1]:
                self._images = self._images.clone()
                self._images[i] = view[0].pixels(self._images.shape[1:]).to(self._images)
                self._views[i] = (view[0], False)
        return self._images if len(chosen) == len(self) else self._images[list(chosen)]

    def keys(self) -> list[str]:
        """A digest of each image's content and shape."""
        if self._keys is None:
            self._keys = [self._key(i) for i in range(len(self))]
        return self._keys

    def _key(self, i: int) -> str:
        if self._views[i] is None:
            return digest(self._images[i])
        view, _ = self._views[i]  # type: ignore[misc]
        shape = tuple(self._images.shape[1:])
        if shape not in view.digests:
            view.digests[shape] = digest(self.pixels([i])[0])
        return view.digests[shape]


Images = Tensor | KnownImages


def pixels_of(images: Images) -> Tensor:
    """The pixels (B, 3, H, W)."""
    return images.pixels() if isinstance(images, KnownImages) else images


def digest(tensor: Tensor) -> str:
    """Digest of a tensor's content, shape and dtype."""
    flat = tensor.detach().to("cpu").contiguous().reshape(-1)
    found = hashlib.blake2b(f"{tuple(tensor.shape)}{tensor.dtype}".encode(), digest_size=16)
    if flat.numel():
        found.update(flat.view(torch.uint8).numpy())
    return found.hexdigest()
