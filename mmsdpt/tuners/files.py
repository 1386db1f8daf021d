"""Tuner files: one slot's parameters in safetensors, with a JSON header that says what they belong
to.

The header is the ``mmsdpt`` entry of the safetensors metadata:

======================  =====================================================================
``format``              version of this layout, an integer
``method``, ``config``  the tuner's class and the settings that give its tensors their meaning
``slot``                slot it was trained in; it may be loaded into another
``shapes``              shape of every tensor
``host``, ``base``      class and fingerprint of the base model's weights
``versions``            mmsdpt, torch, mmdet
``extra``               what the writer adds: dataset classes, epoch, scores
======================  =====================================================================
"""

from __future__ import annotations

import importlib.metadata
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from mmsdpt.utils.atomic import write_atomically
from mmsdpt.utils.errors import InputError
from mmsdpt.utils.fingerprint import base_fingerprint
from mmsdpt.version import __version__

from .base import Tuner

FORMAT = 1
_KEY = "mmsdpt"
_LISTED = 5  # differences that a message names
# Far above the largest method at its largest size; what is bigger is not a tuner file.
MAX_FILE_BYTES = 2 * 1024**3


class TunerFileError(InputError):
    """A file that is no tuner file, or that does not belong to this model."""


def _versions() -> dict[str, str]:
    found = {"mmsdpt": __version__, "torch": torch.__version__}
    for name in ("onedl-mmdetection", "mmdet"):
        try:
            found["mmdet"] = importlib.metadata.version(name)
            break
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def describe_tuners(host: nn.Module) -> dict[str, dict[str, Any]]:
    """Method and settings of every slot, in JSON's types."""
    return {
        slot: dict(method=type(tuner).__name__, config=json.loads(json.dumps(tuner.config())))
        for slot, tuner in getattr(host, "tuners", {}).items()
    }


def save_tuner(
    host: nn.Module,
    path: str | os.PathLike,
    slot: str = "default",
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """Write one slot to ``path``, atomically.

    Args:
        host: Model with the slot.
        path: Where to write; by convention ``*.safetensors``.
        slot: Slot to write.
        extra: JSON-able facts to keep in the header.

    Returns:
        The path.
    """
    tuner: Tuner = host._slot(slot)
    tuner.prepare()  # what starts from the host's weights has no value before the first pass
    description = describe_tuners(host)[slot]
    tensors = {
        name: value.detach().cpu().contiguous() for name, value in tuner.state_dict().items()
    }
    header = dict(
        format=FORMAT,
        method=description["method"],
        config=description["config"],
        slot=slot,
        shapes={name: list(value.shape) for name, value in tensors.items()},
        host=type(host).__name__,
        base=base_fingerprint(host),
        versions=_versions(),
        extra=dict(extra or {}),
    )
    write_atomically(path, save(tensors, metadata={_KEY: json.dumps(header, sort_keys=True)}))
    return Path(path)


def read_tuner_header(path: str | os.PathLike) -> dict[str, Any]:
    """The header of a tuner file.

    Raises:
        TunerFileError: if the file is missing, too large, no safetensors file, or has no (readable)
            header.
    """
    path = Path(path)
    if not path.is_file():
        raise TunerFileError(f"tuner file not found: {path}")
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise TunerFileError(f"{path} has {size} bytes; a tuner file has at most {MAX_FILE_BYTES}")
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise TunerFileError(f"{path} is not a readable safetensors file ({error})") from None
    if _KEY not in metadata:
        raise TunerFileError(
            f"{path} is a safetensors file without mmsdpt's header: it was not written by mmsdpt"
        )
    try:
        header = json.loads(metadata[_KEY])
        if not isinstance(header, dict):
            raise ValueError("not an object")
        version = int(header["format"])
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise TunerFileError(
            f"{path} has a damaged header ({type(error).__name__}: {error})"
        ) from None
    if version > FORMAT:
        raise TunerFileError(
            f"{path} has format {version}, this mmsdpt reads up to {FORMAT}: update mmsdpt"
        )
    return header


def load_tuner(
    host: nn.Module, path: str | os.PathLike, slot: str = "default", check_base: bool = True
) -> dict[str, Any]:
    """Load a tuner file into a slot of the same method, settings and base weights.

    Args:
        host: Model with the slot, its base weights loaded.
        path: Tuner file.
        slot: Slot to fill.
        check_base: Refuse a file that was trained on other base weights. Switch it off to move
            tokens between models on purpose.

    Returns:
        The file's header.

    Raises:
        TunerFileError: with one sentence that says what differs. The model is then unchanged.
    """
    tuner: Tuner = host._slot(slot)
    header = read_tuner_header(path)
    for what, found, expected in (
        ("method", header.get("method"), type(tuner).__name__),
        ("host", header.get("host"), type(host).__name__),
    ):
        if found != expected:
            raise TunerFileError(
                f"{path} holds {what} {found!r}, but slot {slot!r} of the model has {expected!r}"
            )
    different = setting_differences(tuner, header.get("config"))
    if different:
        raise TunerFileError(
            f"{path} was trained with other settings of {type(tuner).__name__}: {different}"
        )

    tensors = _read_tensors(path)
    found_kinds = {name: kind(value) for name, value in tensors.items()}
    expected_kinds = {name: kind(value) for name, value in tuner.state_dict().items()}
    different = differences(found_kinds, expected_kinds)
    if different:
        raise TunerFileError(f"{path} has tensors of other names or shapes: {different}")
    different = differences(
        header.get("shapes"), {name: list(value.shape) for name, value in tensors.items()}
    )
    if different:
        raise TunerFileError(f"{path} has a header that contradicts its tensors: {different}")
    damaged = [name for name, value in tensors.items() if not torch.isfinite(value).all()]
    if damaged:
        raise TunerFileError(f"{path} has values that are not finite in: {', '.join(damaged)}")
    if check_base:
        own = base_fingerprint(host)
        if header.get("base") != own:
            raise TunerFileError(
                f"{path} was trained on other base weights (fingerprint"
                f" {str(header.get('base'))[:12]}, this model has {own[:12]}): load the same"
                " checkpoint (load_from) first"
            )
    tuner.load_state_dict(tensors)
    tuner.adopt(header["config"])
    print_log(f"Loaded {header['method']} from {path} into slot {slot!r}", logger="current")
    return header


def _read_tensors(path: str | os.PathLike) -> dict[str, Tensor]:
    try:
        with safe_open(str(path), framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise TunerFileError(f"{path} is not a readable safetensors file ({error})") from None


def kind(value: Tensor) -> str:
    """Shape, and whether the values are floating-point numbers; their width may differ."""
    return f"{tuple(value.shape)}" + ("" if value.is_floating_point() else f" {value.dtype}")


def setting_differences(tuner: Tuner, found: Any) -> str:
    """What differs between the settings in a file and a tuner's; empty if the file fits."""
    if isinstance(found, Mapping):
        found = tuner.reconcile(found)
    return differences(found, json.loads(json.dumps(tuner.config())))


def tuner_differences(host: nn.Module, found: Any) -> str:
    """What differs between the tuners of a run's checkpoint and a model's, as
    :func:`describe_tuners` gives them; empty if they fit.
    """
    tuners = getattr(host, "tuners", {})
    own = describe_tuners(host)
    if isinstance(found, Mapping):
        found = {
            slot: {**entry, "config": tuners[slot].reconcile(entry["config"])}
            if slot in own and isinstance(entry, Mapping) and isinstance(entry.get("config"), dict)
            else entry
            for slot, entry in found.items()
        }
    return differences(found or {}, own)


def differences(found: Any, expected: Mapping[str, Any]) -> str:
    """What differs between a mapping from a file and the model's; empty if nothing does."""
    if not isinstance(found, Mapping):
        return f"found {found!r}"
    names = sorted({*found, *expected}, key=str)
    missing = object()
    parts = []
    for name in names:
        a, b = found.get(name, missing), expected.get(name, missing)
        if a != b:
            parts.append(
                f"{name}: {'absent' if a is missing else a} in the file,"
                f" {'absent' if b is missing else b} in the model"
            )
    return "; ".join(parts[:_LISTED]) + ("; ..." if len(parts) > _LISTED else "")
