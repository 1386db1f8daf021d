"""Stages of a host whose output may be computed once: what is frozen follows from the seams.

A host names its stages. The output of a stage is a function of its input alone as long as nothing
that trains acts inside of it, and it can then be kept: the pyramid of an image, the features of a
caption.
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
        name: What comes out: ``image`` or ``text`` features.
        parts: Names of the host's modules and parameters that it computes with.
        seams: The seams inside of it, but for those of parameters.
    """

    name: str
    parts: Sequence[str]
    seams: Sequence[Seam]

    def has(self, name: str) -> bool:
        """Whether a parameter or module is part of it."""
        return any(name == part or name.startswith(f"{part}.") for part in self.parts)


class StageCache:
    """Keeps what the frozen stages of one host compute.

    Args:
        host: With ``stages()``.
        store: Where features are kept; several hosts may share it.
        dtype: What they are kept in; None: as they are. ``bfloat16`` halves the size, and changes
            features in the third digit.

    Attributes:
        found: How many features of each stage were there.
        computed: How many were computed.
        on: Whether those of a stage were kept when they were last asked for.
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
        """Whether the output of a stage is kept now; if not, that is said once."""
        reason = self.why_off(stage)
        if reason and torch.is_grad_enabled():  # in testing what was tuned is meant to act
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
        """What a stage makes of images.

        Args:
            stage: Its input are images alone.
            images: (B, 3, H, W).
            compute: Makes tensors (b, ...) of images (b, 3, H, W).

        Returns:
            Tensors (B, ...), new ones.
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
        """What a stage makes of an input that ``key`` is a digest of, such as a caption; new
        tensors.
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
        # What is made in inference mode could not serve a training step later.
        with torch.inference_mode(False), torch.no_grad():
            return compute()

    def _compute(
        self, compute: Callable[[Tensor], Entry], pixels: Tensor, alone: bool
    ) -> list[Entry]:
        """The entry of each image; ``alone`` where its batch has no other."""
        # Kernels add up in another order for one image than for several: an image gets the same
        # bits as in any batch of several, so that it does not matter which others were known.
        several = pixels if alone or len(pixels) > 1 else torch.cat([pixels, pixels])
        made = self._run(lambda: compute(several))
        return [self._kept(tuple(part[i] for part in made)) for i in range(len(pixels))]

    def _kept(self, entry: Entry) -> Entry:
        """As it is stored: on the CPU, nobody else's, perhaps shorter numbers, whose own kinds are
        then told by one more tensor.
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
        acting = _acting(self.host, stage)
        tensors = _tensors(self.host, stage)
        for tuner in acting:
            tensors += [*tuner.parameters(), *tuner.buffers()]
        memo = self._spaces.setdefault(stage.name, Memo())
        memo.depend_on(tensors, *acting, self.dtype)
        return memo.get("", lambda: self._describe(stage, tensors, acting))

    def _describe(
        self, stage: Stage, tensors: Sequence[Tensor], acting: Sequence[SeamUser]
    ) -> Space:
        """A digest of all that a stage computes with, but for its input."""
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
            found.update("\n".join([part, *_description(_part(self.host, part))]).encode())
        for tuner in acting:
            found.update(json.dumps([type(tuner).__qualname__, tuner.config()]).encode())
            found.update("\n".join(_description(tuner)).encode())
        for tensor in tensors:
            found.update(digest(tensor).encode())
        return Space(found.hexdigest(), facts)


def _part(host: nn.Module, name: str) -> nn.Module | Tensor | None:
    """A module or parameter of a host by its name; None where it has none, as a neck."""
    return getattr(host, name, None)


def _modules(host: nn.Module, stage: Stage) -> Iterator[nn.Module]:
    for name in stage.parts:
        part = _part(host, name)
        if isinstance(part, nn.Module):
            yield from part.modules()


def _tensors(host: nn.Module, stage: Stage) -> list[Tensor]:
    """The host's own parameters and buffers of a stage, without tuners' replacements."""
    own = {id(seam.value()): value for seam, value in zip(*host._originals, strict=True)}
    found: list[Tensor | None] = [
        part for name in stage.parts if isinstance(part := _part(host, name), Tensor)
    ]
    for module in _modules(host, stage):
        found += module._parameters.values()
        found += module._buffers.values()
    return [own.get(id(tensor), tensor) for tensor in found if tensor is not None]


def _acting(host: nn.Module, stage: Stage) -> list[Any]:
    """The tuners that are switched on and act in a stage, each once."""
    seams = [*stage.seams, *(seam for seam in host._parameter_seams if stage.has(seam.name))]
    return acting_tuners(seams)


def why_not_constant(host: nn.Module, stage: Stage) -> str:
    """Why the output of a stage is not reproducible; empty if it is."""
    for tuner in _acting(host, stage):
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


def _description(part: nn.Module | Tensor | None) -> Iterator[str]:
    """Kinds and settings of all modules, which parameters do not tell: heads, windows, strides."""
    if not isinstance(part, nn.Module):
        return
    for name, module in part.named_modules():
        settings = {
            key: value
            for key, value in sorted(vars(module).items())
            if not key.startswith("_") and key != "training" and _is_setting(value)
        }
        yield f"{name} {type(module).__module__}.{type(module).__qualname__} {settings}"


def _is_setting(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return all(map(_is_setting, value))
    # A path is no setting: the same folder may lie elsewhere tomorrow.
    return isinstance(value, _SETTING) and not (isinstance(value, str) and "/" in value)
