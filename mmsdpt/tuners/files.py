"""Tuner files: one slot's parameters in safetensors format, with a JSON header that describes them.

The header is the ``mmsdpt`` entry of the safetensors metadata:

======================  =====================================================================
``format``              version of this layout, an integer
``method``, ``config``  the tuner's class and the settings that give its tensors their meaning
``slot``                the slot it was trained in; it may be loaded into another
``shapes``              shape of every tensor
``checksum``            SHA-256 over names, types, shapes and bytes of the tensors
``host``, ``base``      class and fingerprint of the base model's weights
``versions``            mmsdpt, torch, mmdet
``extra``               other facts: dataset classes, epoch, scores
``model``, ``data``     facts to rebuild the model: see :func:`mmsdpt.engine.state.model_facts`
======================  =====================================================================

Tensors of the host that trained together with the tuner (``model.trainable``) are named ``host:``
plus their name in the host. Files of version 0.1 have no checksum, ``model`` or ``data``. See also
docs/tuner_files.md.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
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
from mmsdpt.utils.base_weights import TUNER_FILE_KEY, not_finite, odd_kind
from mmsdpt.utils.errors import DivergedError, InputError, listed, printable
from mmsdpt.utils.fingerprint import base_fingerprint
from mmsdpt.utils.texts import disguise
from mmsdpt.version import __version__

from .base import Tuner

FORMAT = 1
# Far more than the largest method needs, so a larger file is not a tuner file.
MAX_FILE_BYTES = 2 * 1024**3
MAX_HEADER_BYTES = 4 * 1024**2
_OF_HOST = "host:"


class TunerFileError(InputError):
    """A file that is not a tuner file, or does not fit this model."""


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
    """Method and settings of every slot, as JSON types."""
    return {
        slot: dict(method=type(tuner).__name__, config=json.loads(json.dumps(tuner.config())))
        for slot, tuner in getattr(host, "tuners", {}).items()
    }


def host_values(host: nn.Module, tuner: Tuner) -> dict[str, Tensor]:
    """The values, by name, of the host's parameters that trained together with a tuner."""
    return tuner.host_values() | {
        name: value
        for name, value in host.named_parameters()
        if value.requires_grad and not name.startswith("tuners.")
    }


def save_tuner(
    host: nn.Module,
    path: str | os.PathLike,
    slot: str = "default",
    extra: Mapping[str, Any] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Write one slot to ``path``, atomically, including the parameters of the host that trained.

    Args:
        host: Model with the slot.
        path: Where to write; by convention ``*.safetensors``.
        slot: Slot to write.
        extra: Other facts for the header, as JSON types.
        facts: ``model`` and ``data`` of the header.

    Returns:
        The path.

    Raises:
        DivergedError: if a value is not finite; an existing file at ``path`` is kept.
        TunerFileError: if the slot is merged.
    """
    tuner: Tuner = host._slot(slot)
    _refuse_merged(tuner, slot, "saved")
    tuner.prepare()  # parameters that start from the host's weights have no value before it
    description = describe_tuners(host)[slot]
    of_host = host_values(host, tuner)
    own = tuner.state_dict() | {_OF_HOST + name: value for name, value in of_host.items()}
    tensors = {name: value.detach().cpu().contiguous() for name, value in own.items()}
    if damaged := not_finite(tensors):
        raise DivergedError(f"{path} is not written: {printable(damaged)} not finite")
    if tuner.trained_classes:  # the rows of these parameters are in this order
        extra = {**(extra or {}), "classes": list(tuner.trained_classes)}
    header = dict(
        format=FORMAT,
        method=description["method"],
        config=description["config"],
        slot=slot,
        shapes={name: list(value.shape) for name, value in tensors.items()},
        checksum=_checksum(tensors),
        host=type(host).__name__,
        base=base_fingerprint(host, without=of_host),
        versions=_versions(),
        extra=dict(extra or {}),
        **(facts or {}),
    )
    metadata = {TUNER_FILE_KEY: json.dumps(header, sort_keys=True)}
    write_atomically(path, save(tensors, metadata=metadata))
    return Path(path)


def read_tuner_header(path: str | os.PathLike) -> dict[str, Any]:
    """The header of a tuner file.

    Raises:
        TunerFileError: if the file is missing, too large or not a safetensors file, or has no
            readable header.
    """
    path = Path(path)
    if path.is_dir():
        raise TunerFileError(
            f"{path} is a folder: give the tuner file in it, or load a shared one with"
            " from_pretrained"
        )
    if not path.is_file():
        raise TunerFileError(f"tuner file not found: {path}")
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise TunerFileError(f"{path} has {size} bytes; a tuner file has at most {MAX_FILE_BYTES}")
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        with path.open("rb") as content:
            start = content.read(300)
        is_checkpoint = b"/data.pkl" in start
        what = "a checkpoint of PyTorch" if is_checkpoint else disguise(start)
        raise TunerFileError(
            f"{path} is not a readable safetensors file ({what or printable(error)})"
        ) from None
    if TUNER_FILE_KEY not in metadata:
        raise TunerFileError(
            f"{path} is a safetensors file without mmsdpt's header, so it is no tuner file: base"
            " weights, merged ones, too, belong in load_from of a config"
        )
    if len(metadata[TUNER_FILE_KEY]) > MAX_HEADER_BYTES:
        raise TunerFileError(f"{path} has a header of more than {MAX_HEADER_BYTES} bytes")
    try:
        header = json.loads(metadata[TUNER_FILE_KEY])
        if not isinstance(header, dict):
            raise ValueError("not an object")
        version = int(header["format"])
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise TunerFileError(
            f"{path} has a damaged header ({type(error).__name__}: {printable(error)})"
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

    Parameters of the host that are in the file are set if they train in this model. If they do not,
    they have the file's values while the slot is switched on.

    Args:
        host: Model with the slot, its base weights loaded.
        path: Tuner file.
        slot: Slot to fill.
        check_base: Refuse a file that was trained on other base weights. Set it to False to move
            tokens between models on purpose.

    Returns:
        The file's header.

    Raises:
        TunerFileError: if the file does not fit; one sentence says what differs. The model does not
            change.
    """
    tuner: Tuner = host._slot(slot)
    _refuse_merged(tuner, slot, "loaded")
    header = read_tuner_header(path)
    for what, found, expected in (
        ("method", header.get("method"), type(tuner).__name__),
        ("host", header.get("host"), type(host).__name__),
    ):
        if found != expected:
            raise TunerFileError(
                f"{path} holds {what} {printable(repr(found))}, but slot {slot!r} of the model has"
                f" {expected!r}"
            )
    different = setting_differences(tuner, header.get("config"))
    if different:
        raise TunerFileError(
            f"{path} was trained with other settings of {type(tuner).__name__}: {different}"
        )

    tensors = _read_tensors(path)
    own = tuner.state_dict()
    of_host = {name for name in tensors if name.startswith(_OF_HOST)}
    own |= {
        _OF_HOST + name: value
        for name, value in host.named_parameters()
        if _OF_HOST + name in of_host and not name.startswith("tuners.")
    }
    found_kinds = {name: kind(value) for name, value in tensors.items()}
    expected_kinds = {name: kind(value) for name, value in own.items()}
    different = differences(found_kinds, expected_kinds)
    if different:
        raise TunerFileError(f"{path} has tensors of other names or shapes: {different}")
    different = differences(
        header.get("shapes"), {name: list(value.shape) for name, value in tensors.items()}
    )
    if different:
        raise TunerFileError(f"{path} has a header that contradicts its tensors: {different}")
    if damaged := not_finite({name: x.to(own[name].dtype) for name, x in tensors.items()}):
        raise TunerFileError(f"{path} has values that are not finite in: {printable(damaged)}")
    if header.get("checksum", None) not in (None, _checksum(tensors)):
        raise TunerFileError(
            f"{path} is damaged: its tensors are not those that were written (their checksum"
            " differs); copy or fetch it again"
        )
    if check_base:
        base = base_fingerprint(host, without=[name.removeprefix(_OF_HOST) for name in of_host])
        if header.get("base") != base:
            raise TunerFileError(
                f"{path} was trained on other base weights (fingerprint"
                f" {printable(header.get('base'), 12)}, this model has"
                f" {base[:12]}{_named(header)}): load the same checkpoint (load_from) first"
            )
    tuner.load_state_dict({name: x for name, x in tensors.items() if name not in of_host})
    given = {name.removeprefix(_OF_HOST): tensors[name] for name in of_host}
    _set_host_values(host, slot, given)
    tuner.adopt(header["config"])
    extra = header.get("extra")
    remember_classes(tuner, extra.get("classes") if isinstance(extra, Mapping) else None)
    print_log(f"Loaded {header['method']} from {path} into slot {slot!r}", logger="current")
    return header


def _refuse_merged(tuner: Tuner, slot: str, what: str) -> None:
    """Refuse a slot whose values are in the host's weights, too: a file would belong to weights
    that no other model has.
    """
    if tuner.merged:
        raise TunerFileError(
            f"slot {slot!r} is merged into the host's weights and cannot be {what}: call unmerge()"
            " of the tuner first"
        )


@torch.no_grad()
def _set_host_values(host: nn.Module, slot: str, values: Mapping[str, Tensor]) -> None:
    """Set parameters of the host to the values from a slot's file; see :func:`load_tuner`."""
    kept = {}
    for seam in host._parameter_seams:
        value, parameter = values.get(seam.name), seam.value()
        if value is not None and parameter.requires_grad:
            parameter.copy_(value)
        elif value is not None:
            kept[seam] = value.to(parameter)
    tuner = host._slot(slot)
    tuner.keep_host_values(kept)
    for other in (each for each in host.tuners if each != slot):
        found = host.tuners[other].host_values()
        if differ := [s.name for s in kept if not torch.equal(found.get(s.name, kept[s]), kept[s])]:
            print_log(
                f"Slots {other!r} and {slot!r} have different values of {listed(differ)}: where"
                " both are switched on, those of the file that was loaded last act",
                "current",
                logging.WARNING,
            )


def _named(header: Mapping) -> str:
    """The name of the base weights that the file was trained on, if it is in the header."""
    model = header.get("model")
    name = model.get("load_from") if isinstance(model, Mapping) else None
    return f"; the file names {printable(name)}" if name else ""


def remember_classes(tuner: Tuner, names: Any) -> None:
    """Set the trained classes of a tuner that depends on them, from the names in a file. If
    ``names`` is not a list, the tuner gets no classes.
    """
    if tuner.per_class or tuner.remembers_classes:
        known = isinstance(names, (list, tuple))
        tuner.trained_classes = tuple(map(str, names)) if known else ()


def _read_tensors(path: str | os.PathLike) -> dict[str, Tensor]:
    try:
        with safe_open(str(path), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except Exception as error:  # unknown data types raise various exceptions
        raise TunerFileError(
            f"{path} is not a readable safetensors file ({printable(error)})"
        ) from None
    for name, value in tensors.items():
        if problem := odd_kind(name, value):
            raise TunerFileError(f"{path} cannot be used: {problem}")
    return tensors


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f"{name}:{value.dtype}:{tuple(value.shape)}:".encode("utf-8", "replace"))
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def kind(value: Tensor) -> str:
    """Shape and, unless it is a floating-point type, dtype: floating-point types may differ."""
    return f"{tuple(value.shape)}" + ("" if value.is_floating_point() else f" {value.dtype}")


def setting_differences(tuner: Tuner, found: Any) -> str:
    """Differences between the settings in a file and a tuner's; empty if the file fits."""
    if isinstance(found, Mapping):
        found = tuner.reconcile(found)
    return differences(found, json.loads(json.dumps(tuner.config())))


def tuner_differences(host: nn.Module, found: Any) -> str:
    """Differences between the tuners of a checkpoint and a model's, as :func:`describe_tuners`
    gives them; empty if they fit.
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


def differences(found: Any, expected: Mapping[str, Any], place: str = "") -> str:
    """Differences between a mapping from a file and the model's; empty if there are none.

    Args:
        place: Begins the name of each difference.
    """
    if not isinstance(found, Mapping):
        return f"found {printable(repr(found))}"
    names = sorted({*found, *expected}, key=str)
    missing = object()
    parts = []
    for name in names:
        a, b, shown = found.get(name, missing), expected.get(name, missing), printable(name)
        if a != b and isinstance(a, Mapping) and isinstance(b, Mapping):
            parts.append(differences(a, b, f"{place}{shown}."))
        elif a != b:
            parts.append(
                f"{place}{shown}: {'absent' if a is missing else printable(a)} in the file,"
                f" {'absent' if b is missing else printable(b)} in the model"
            )
    return listed(parts, separator="; ")
