"""Load the base model's weights: refuse files that do not fit, and unpickle only tensors."""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log
from mmengine.runner.checkpoint import CheckpointLoader
from packaging.version import Version
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from mmsdpt.utils.downloads import resolve_checkpoint
from mmsdpt.utils.errors import CheckpointError, first_line, listed, printable
from mmsdpt.utils.foreign_layouts import CLIP_CONVERTER, CONVERTER, conversion_advice
from mmsdpt.utils.texts import disguise
from mmsdpt.utils.torchscript_archive import is_torchscript

__all__ = [
    "CheckpointError",
    "load_base_file",
    "load_base_weights",
    "read_checkpoint",
    "resolve_checkpoint",
]

SAFE_TORCH = "2.10"  # the first version that reads .pth files safely
TUNER_FILE_KEY = "mmsdpt"  # key in the metadata of safetensors files


def read_checkpoint(
    path: str, map_location: str | torch.device = "cpu", mapped: bool = False
) -> dict:
    """Read a PyTorch or safetensors file (with any extension), or a URL of a .pth, without
    executing anything in it.

    Args:
        path: File or URL.
        map_location: As in ``torch.load``.
        mapped: Memory-map a local file instead of reading it. Copy the values at once, as the file
            must not change before.

    Returns:
        The checkpoint's dict; a plain state dict is put under ``state_dict``.

    Raises:
        CheckpointError: if it cannot be read that way, has no dict of names under ``state_dict``,
            or has unsupported tensors (8-bit floats, sparse tensors, views that are larger than
            their data); or if it is not safetensors and PyTorch is too old to read it safely.
    """
    is_url = path.startswith(("http://", "https://"))
    try:
        if not is_url and _is_safetensors(path):
            _refuse_tuner_file(path)
            return _checked(dict(state_dict=load_file(path, device=str(map_location))), path)
        _check_torch(path)
        with torch.serialization.safe_globals(_harmless_types()):
            if is_url:
                content = torch.hub.load_state_dict_from_url(
                    path, map_location=map_location, weights_only=True
                )
            else:
                content = _read_torch_file(path, map_location, mapped)
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        raise CheckpointError(
            f"{path} holds Python objects besides tensors, which mmsdpt does not unpickle"
            f" ({named[1] if named else 'damaged'}); if you trust it, re-save its state dict:"
            " torch.save({'state_dict': checkpoint['state_dict']}, PATH)"
        ) from None
    except Exception as error:  # a damaged pickle may raise any exception
        reason = first_line(error)
        raise CheckpointError(f"{path} cannot be read as a checkpoint ({reason})") from None
    if isinstance(content, Mapping) and "state_dict" not in content:
        content = dict(state_dict=dict(content))
    state = content["state_dict"] if isinstance(content, Mapping) else content
    if not isinstance(state, Mapping):
        raise CheckpointError(f"{path} holds a {type(state).__name__}, expected a dict of tensors")
    if odd := [name for name in state if not isinstance(name, str)]:
        raise CheckpointError(
            f"{path} holds a dict with the keys {printable(listed(odd))}, expected tensors by name"
        )
    return _checked(dict(content), path)


def _read_torch_file(path: str, map_location: str | torch.device, mapped: bool) -> Any:
    # torch.load can map only a path, not an old format, and decides by the path's extension.
    if mapped and zipfile.is_zipfile(path) and not path.endswith(".safetensors"):
        return torch.load(path, map_location=map_location, weights_only=True, mmap=True)
    with open(path, "rb") as file:
        return torch.load(file, map_location=map_location, weights_only=True)


def _check_torch(path: str) -> None:
    """Refuse to unpickle with a PyTorch whose ``weights_only`` is not safe: below 2.6 it runs code
    (CVE-2025-32434), below 2.10 a file can corrupt memory (CVE-2026-24747).
    """
    if Version(torch.__version__).release < Version(SAFE_TORCH).release:
        raise CheckpointError(
            f"{path} cannot be read safely with torch {torch.__version__} (CVE-2026-24747):"
            f" install torch {SAFE_TORCH} or later, or convert the file in an environment that"
            f" has it: {CONVERTER} {path} OUT.safetensors (or clip2mmsdpt.py)"
        )


def state_dict_of(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The state dict in the result of :func:`read_checkpoint`. Files of microsoft and IDEA-Research
    have it under ``model``.
    """
    state = content["state_dict"]
    return state["model"] if isinstance(state.get("model"), Mapping) else state


def _refuse_tuner_file(path: str) -> None:
    with safe_open(path, framework="pt") as file:
        if TUNER_FILE_KEY in (file.metadata() or {}):
            raise CheckpointError(
                f"{path} is a tuner file, which holds no base weights: use"
                " mmsdpt.apis.Detector(FILE) or Classifier(FILE), tools/test.py CONFIG FILE, start"
                " a training from it with --cfg-options tuner_files.default=FILE, or merge it first"
                " (tools/model_converters/merge_tuner.py)"
            )


def load_from_safetensors(filename: str, map_location: Any = None) -> dict:
    """Lets MMEngine's loader, and thus the toolboxes' inferencers, read safetensors."""
    return read_checkpoint(str(filename), map_location or "cpu")


_SAFETENSORS = r".*\.safetensors$"  # MMEngine uses prefixes as regular expressions
_READ_HERE = ("", "http://", "https://", _SAFETENSORS)
CheckpointLoader.register_scheme(_SAFETENSORS, load_from_safetensors, force=True)


def _is_safetensors(path: str) -> bool:
    """Whether a file has safetensors format, not PyTorch's.

    Raises:
        CheckpointError: if it has neither; the message names the actual format.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        start = file.read(64)
    header = int.from_bytes(start[:8], "little")
    if start[8:9] == b"{" and 2 <= header <= size - 8:
        return True
    if start.startswith(b"PK"):
        with zipfile.ZipFile(path) as archive:
            if is_torchscript(archive):
                raise CheckpointError(
                    f"{path} is a TorchScript archive, like OpenAI's CLIP: convert it first,"
                    f" {CLIP_CONVERTER} {path} OUT.safetensors"
                )
            # PyTorch never compresses, and a compressed archive may unpack to any size.
            if any(item.compress_type != zipfile.ZIP_STORED for item in archive.infolist()):
                raise CheckpointError(f"{path} is a compressed archive, not PyTorch's")
        return False
    what = "JSON: name the file of the weights" if start[:1] == b"{" else disguise(start)
    if what:
        raise CheckpointError(f"{path} is {what}")
    return path.endswith(".safetensors")


_USUAL = {torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.bool, torch.uint8}
_USUAL |= {torch.int8, torch.int16, torch.int32, torch.int64}


def odd_kind(name: str, value: Tensor) -> str:
    """Why a tensor of a file cannot be used and how to save it instead; empty for a usual one."""
    name = printable(name)
    if value.is_meta:
        return f"the tensor {name} has no values: save the model after its weights are loaded"
    if value.layout != torch.strided or value.is_quantized:
        how = "to_dense" if value.layout != torch.strided else "dequantize"
        return f"the tensor {name} is not a plain tensor: save tensor.{how}()"
    if value.dtype not in _USUAL:
        kind = str(value.dtype).removeprefix("torch.")
        return (
            f"the tensor {name} is of type {kind}, which PyTorch does not compute with: save it as"
            " tensor.to(torch.float16) or float32, after multiplying by its scale if it has one"
        )
    size = value.numel() * value.element_size()
    if size > max(value.untyped_storage().nbytes(), 2**20):
        return f"the tensor {name} is a view that is larger than its data: save tensor.clone()"
    return ""


def _checked(content: dict, path: str) -> dict:
    """The content, after checking that every tensor in it is supported."""
    seen: set[int] = set()
    waiting: list[tuple[str, object]] = [("", content)]
    while waiting:  # not recursive: a file may be nested to any depth
        name, value = waiting.pop()
        if isinstance(value, Tensor):
            if problem := odd_kind(name[1:], value):
                raise CheckpointError(f"{path} cannot be used: {problem}")
        elif isinstance(value, (Mapping, list, tuple)) and id(value) not in seen:
            seen.add(id(value))
            items = value.items() if isinstance(value, Mapping) else enumerate(value)
            waiting += [(f"{name[:200]}.{key}"[:300], item) for key, item in items]
    return content


def not_finite(state: Mapping[str, Tensor]) -> list[str]:
    """Names of the tensors that hold a NaN or an infinite value."""
    return [
        name
        for name, value in state.items()
        if value.is_floating_point() and not bool(torch.isfinite(value).all())
    ]


@contextmanager
def only_tensors_are_read() -> Iterator[None]:
    """Context in which MMEngine's own loader, too, reads local files and URLs without executing
    anything in them: ``init_cfg=dict(type="Pretrained", checkpoint=PATH)`` would otherwise run code
    of a pickle.
    """
    schemes = CheckpointLoader._schemes
    before = dict(schemes)

    def load(filename: str, map_location: Any = None) -> dict:
        return read_checkpoint(resolve_checkpoint(str(filename)), map_location or "cpu")

    def refuse(filename: str, map_location: Any = None) -> dict:
        raise CheckpointError(
            f"{filename} would be read by MMEngine, which executes code in the file: download it"
            " and give its path"
        )

    for prefix in schemes:
        schemes[prefix] = load if prefix in _READ_HERE else refuse
    try:
        yield
    finally:
        schemes.clear()
        schemes.update(before)


def _harmless_types() -> list:
    """Types in the training logs of OpenMMLab checkpoints; none runs code when unpickled."""
    core = np._core if hasattr(np, "_core") else np.core
    return [
        # NumPy 2 moved these; a file has the location in the version that wrote it.
        *(
            _renamed(getattr(core.multiarray, name), f"numpy.{place}.multiarray", name)
            for name in ("_reconstruct", "scalar")
            for place in ("core", "_core")
        ),
        np.ndarray,
        np.dtype,
        *{type(np.dtype(kind)) for kind in "?bhilqBHILQefdSU"},
        # MMEngine's logs refer to their own methods by getattr. Both are unused here and replaced
        # by dummies.
        _renamed(lambda *args: None, "builtins", "getattr"),
        type("HistoryBuffer", (_Ignored,), {"__module__": "mmengine.logging.history_buffer"}),
    ]


class _Ignored:
    """An object that is ignored."""

    def __setstate__(self, state: object) -> None:
        pass


def _renamed(function: Callable, module: str, name: str) -> Callable:
    """``function`` under the name that a pickle uses."""

    def call(*args):
        return function(*args)

    call.__module__, call.__qualname__ = module, name
    return call


def load_base_file(model: nn.Module, path: str) -> None:
    """Read a file of base weights (:func:`read_checkpoint`) and load it (:func:`load_base_weights`)
    without holding the weights in memory twice.
    """
    load_base_weights(model, read_checkpoint(path, mapped=True)["state_dict"], path)


def load_base_weights(model: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    """Load the base model. Every tensor of the host must be in the file with its shape, except
    those that only training needs (``starts_at_zero`` of the model), which are set to zero.

    MMEngine only warns and continues with random weights if a checkpoint belongs to another model;
    here this is an error.

    Raises:
        CheckpointError: naming the tensors that are missing or have another shape.
    """
    if advice := conversion_advice(map(str, state_dict_of({"state_dict": state})), origin):
        raise CheckpointError(advice)
    if not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"the state dict of {origin} holds more than tensors")
    state = {str(name).removeprefix("module."): value for name, value in state.items()}
    own = {
        name: value for name, value in model.state_dict().items() if not name.startswith("tuners.")
    }
    zeros = {
        name: torch.zeros_like(own[name])
        for name in getattr(model, "starts_at_zero", ())
        if name in own and name not in state
    }
    if zeros:
        print_log(
            f"{origin} has no {listed([*zeros])}, which training needs: initialised to zero",
            "current",
        )
        state.update(zeros)
    missing = [name for name in own if name not in state]
    wrong = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(value.shape)}"
        for name, value in own.items()
        if name in state and state[name].shape != value.shape
    ]
    if 2 * len(missing) > len(own) and any(name.startswith("tuners.") for name in state):
        raise CheckpointError(
            f"{origin} is the checkpoint of a run, which holds no base weights: leave load_from as"
            f" it was, and resume the run with --resume {origin}, or start a new one from it with"
            f" --cfg-options tuner_files.default={origin}"
        )
    if missing or wrong:
        parts = [
            f"{len(names)} {what}: {listed(names)}"
            for what, names in (("tensors missing", missing), ("tensors of another shape", wrong))
            if names
        ]
        raise CheckpointError(f"{origin} does not fit {type(model).__name__}: {'; '.join(parts)}")
    # One by one, because a copy of all in another precision would be as large as the model.
    if damaged := [n for n, v in own.items() if not_finite({n: state[n].to(v.dtype)})]:
        raise CheckpointError(
            f"{origin} is damaged: it has values that are not finite in {listed(damaged)}"
        )
    unexpected = [name for name in state if name not in own and not name.startswith("tuners.")]
    if unexpected:
        print_log(
            f"{origin} has {len(unexpected)} tensors that the model does not: {listed(unexpected)}",
            "current",
        )
    model.load_state_dict({name: state[name] for name in own}, strict=False)
