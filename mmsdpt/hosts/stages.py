"""Stages: the parts of a host whose output can be cached while nothing in them trains.

A host names its stages. As long as nothing that trains acts inside a stage, its output depends only
on its input and can be cached: the pyramid of an image, or the features of a caption. The seams of
a stage show which tuners act in it.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mmsdpt.utils.feature_store import Entry, FeatureStore, Space
from mmsdpt.utils.memo import Memo, autocast_dtype
from mmsdpt.version import __version__

from .images import Images, KnownImages, digest, pixels_of
from .seams import Seam, SeamUser, acting_tuners

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
_KINDS = (torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.bool)


@dataclass(frozen=True)
class Stage:
    """A part of a host.

    Attributes:
        name: Kind of its output: ``image`` or ``text`` features.
        parts: Names of the host's modules and parameters that it uses.
        seams: The seams inside the stage, except those of parameters.
    """

    name: str
    parts: Sequence[str]
    seams: Sequence[Seam]

    def has(self, name: str) -> bool:
        """Whether a parameter or module belongs to the stage."""
        return any(name == part or name.startswith(f"{part}.") for part in self.parts)


class StageCache:
    """Caches the outputs of the frozen stages of one host.

    Args:
        host: A host with ``stages()``.
        store: Where features are stored; several hosts may share it.
        dtype: Dtype of stored features; None: unchanged. ``bfloat16`` halves the size, and changes
            features in the third digit.

    Attributes:
        found: By stage, how many features were in the store.
        computed: By stage, how many features were computed.
        on: By stage, whether its features were cached at the last request.
    """

    def __init__(
        self, host: nn.Module, store: FeatureStore, dtype: torch.dtype | None = None
    ) -> None:
        self.host, self.store, self.dtype = host, store, dtype
        self.found: Counter[str] = Counter()
        self.computed: Counter[str] = Counter()
        self.on: dict[str, bool] = {}
        self._spaces: dict[str, Memo[Space]] = {}
        self._off: dict[str, str] = {}
        self._told: set[tuple[str, str]] = set()

    # ------------------------------------------------------------------ on or off

    def switch_off(self, stage: str, reason: str) -> None:
        """Stop caching a stage, and log the reason."""
        self._off[stage] = reason
        self._tell(stage, reason)

    def why_off(self, stage: Stage) -> str:
        """Why a stage is currently not cached; empty if it is."""
        return self._off.get(stage.name) or why_not_constant(self.host, stage)

    def is_on(self, stage: Stage) -> bool:
        """Whether the output of a stage is currently cached; if not, the reason is logged once."""
        reason = self.why_off(stage)
        if reason and torch.is_grad_enabled():  # in testing a trained tuner is expected to act
            self._tell(stage.name, reason)
        self.on[stage.name] = not reason
        return not reason

    def _tell(self, stage: str, reason: str) -> None:
        if (stage, reason) not in self._told:
            self._told.add((stage, reason))
            print_log(
                f"Feature cache: {stage} features are computed each time, because {reason}",
                "current",
                logging.INFO,
            )

    # ------------------------------------------------------------------ features

    def images(
        self, stage: Stage, images: Images, compute: Callable[[Tensor], Entry]
    ) -> tuple[Tensor, ...]:
        """Output of a stage for images; only features that are not in the store are computed.

        Args:
            stage: A stage whose only input is images.
            images: (B, 3, H, W).
            compute: Computes tensors (b, ...) from images (b, 3, H, W).

        Returns:
            New tensors (B, ...).
        """
        if not self.is_on(stage):
            return compute(pixels_of(images))
        if not isinstance(images, KnownImages):
            images = KnownImages(images)
        space, keys = self._space(stage), images.keys()
        found = self.store.get(space, keys)
        missing = [i for i, entry in enumerate(found) if entry is None]
        self.computed[stage.name] += len(missing)
        self.found[stage.name] += len(found) - len(missing)
        if missing:
            made = self._compute(compute, images.pixels(missing), alone=len(keys) == 1)
            for i, entry in zip(missing, made, strict=True):
                found[i] = entry
            self.store.put(space, {keys[i]: found[i] for i in missing})  # type: ignore[misc]
        levels = zip(*found, strict=True)  # type: ignore[arg-type]
        return self._given(tuple(torch.stack(level) for level in levels), images.device)

    def one(self, stage: Stage, key: str, compute: Callable[[], Entry], device: Any) -> Entry:
        """Output of a stage, as new tensors, for the input with the digest ``key``, such as a
        caption.
        """
        if not self.is_on(stage):
            return compute()
        space = self._space(stage)
        (found,) = self.store.get(space, [key])
        counted = self.computed if found is None else self.found
        counted[stage.name] += 1
        if found is None:
            found = self._kept(self._run(compute))
            self.store.put(space, {key: found})
        return self._given(tuple(part.clone() for part in found), device)

    def _run(self, compute: Callable[[], Entry]) -> Entry:
        # Tensors made in inference mode could not be used in a later training step.
        with torch.inference_mode(False), torch.no_grad():
            return compute()

    def _compute(
        self, compute: Callable[[Tensor], Entry], pixels: Tensor, alone: bool
    ) -> list[Entry]:
        """The entry of each image; ``alone`` if it is the only one of its batch."""
        # Kernels sum in another order for one image than for several. The only missing image of a
        # batch is therefore computed twice: its bits must not depend on which others were stored.
        several = pixels if alone or len(pixels) > 1 else torch.cat([pixels, pixels])
        made = self._run(lambda: compute(several))
        return [self._kept(tuple(part[i] for part in made)) for i in range(len(pixels))]

    def _kept(self, entry: Entry) -> Entry:
        """The entry as it is stored: copies on the CPU, converted to ``dtype`` if it is set. One
        more tensor then holds the original dtypes.
        """
        kept = tuple(self._shortened(part).to("cpu", copy=True) for part in entry)
        kept = tuple(part.contiguous() for part in kept)
        if self.dtype is None:
            return kept
        return (*kept, torch.tensor([_KINDS.index(part.dtype) for part in entry]))

    def _shortened(self, part: Tensor) -> Tensor:
        part = part.detach()
        return part.to(self.dtype) if self.dtype and part.is_floating_point() else part

    def _given(self, entry: Entry, device: torch.device) -> Entry:
        if self.dtype is None:
            return tuple(part.to(device) for part in entry)
        *parts, kinds = entry
        kinds = kinds.reshape(-1, len(parts))[0].tolist()
        return tuple(part.to(device, _KINDS[kind]) for part, kind in zip(parts, kinds, strict=True))

    # ------------------------------------------------------------------ what they depend on

    def _space(self, stage: Stage) -> Space:
        acting = acting_in(self.host, stage)
        tensors = _tensors(self.host, stage)
        for tuner in acting:
            tensors += [*tuner.parameters(), *tuner.buffers()]
        memo = self._spaces.setdefault(stage.name, Memo())
        memo.depend_on(tensors, *acting, self.dtype)
        return memo.get("", lambda: self._describe(stage, tensors, acting))

    def _describe(
        self, stage: Stage, tensors: Sequence[Tensor], acting: Sequence[SeamUser]
    ) -> Space:
        """A digest of everything that the output of a stage depends on, except its input."""
        device = tensors[0].device
        kind = type(self.host)
        facts = dict(
            what=f"{stage.name} features of {kind.__name__}",
            computed=f"{device.type}, {autocast_dtype(device) or tensors[0].dtype}".replace(
                "torch.", ""
            ),
            kept=str(self.dtype or "as computed").removeprefix("torch."),
            versions=f"mmsdpt {__version__}, PyTorch {torch.__version__}",
        )
        found = hashlib.blake2b(json.dumps(facts).encode(), digest_size=16)
        for part in stage.parts:
            found.update("\n".join([part, *_description(getattr(self.host, part, None))]).encode())
        for tuner in acting:
            found.update(json.dumps([type(tuner).__qualname__, tuner.config()]).encode())
            found.update("\n".join(_description(tuner, paths=True)).encode())
        for tensor in tensors:
            found.update(digest(tensor).encode())
        return Space(found.hexdigest(), facts)


def _modules(host: nn.Module, stage: Stage) -> Iterator[nn.Module]:
    for name in stage.parts:
        part = getattr(host, name, None)
        if isinstance(part, nn.Module):
            yield from part.modules()


def _tensors(host: nn.Module, stage: Stage) -> list[Tensor]:
    """The host's own parameters and buffers of a stage, not the values of tuners."""
    own = {id(seam.value()): value for seam, value in zip(*host._originals, strict=True)}
    found: list[Tensor | None] = [
        part for name in stage.parts if isinstance(part := getattr(host, name, None), Tensor)
    ]
    for module in _modules(host, stage):
        found += module._parameters.values()
        found += module._buffers.values()
    return [own.get(id(tensor), tensor) for tensor in found if tensor is not None]


def acting_in(host: nn.Module, stage: Stage) -> list[Any]:
    """The tuners that are switched on and act in a stage, each once."""
    seams = [*stage.seams, *(seam for seam in host._parameter_seams if stage.has(seam.name))]
    return acting_tuners(seams)


def trained_in(host: nn.Module, stage: Stage) -> str:
    """Name of the first of the host's parameters in a stage that trains; empty if none does."""
    trained = (name for name, p in host.named_parameters() if p.requires_grad and stage.has(name))
    return next(trained, "")


def why_not_constant(host: nn.Module, stage: Stage) -> str:
    """Why the output of a stage is not reproducible; empty if it is."""
    for tuner in acting_in(host, stage):
        name = type(tuner).__name__
        if not tuner.frozen:
            return f"{name} trains there"
        if tuner.image_depends_on_text or tuner.text_depends_on_image:
            return f"{name} makes image and text depend on each other"
        if tuner.training:
            return f"{name} is in training mode"
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in _tensors(host, stage)):
        return "weights of the host train there"
    if any(module.training for module in _modules(host, stage)):
        return "a part is in training mode"
    return ""


_SETTING = (int, float, str, type(None))


def _description(part: nn.Module | Tensor | None, paths: bool = False) -> Iterator[str]:
    """Classes and settings of all modules that parameters do not show: heads, windows, strides.

    Args:
        paths: Whether texts with a slash count. Those of hosts are paths, and the same folder may
            be moved; a tuner has sentences.
    """
    if not isinstance(part, nn.Module):
        return
    for name, module in part.named_modules():
        settings = {
            key: value
            for key, value in sorted(vars(module).items())
            if not key.startswith("_") and key != "training" and _is_setting(value, paths)
        }
        yield f"{name} {type(module).__module__}.{type(module).__qualname__} {settings}"


def _is_setting(value: Any, paths: bool) -> bool:
    if isinstance(value, (tuple, list)):
        return all(_is_setting(item, paths) for item in value)
    return isinstance(value, _SETTING) and (paths or not (isinstance(value, str) and "/" in value))
