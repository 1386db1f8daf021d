"""Loading the base model's weights: refuse what does not fit, unpickle nothing but tensors."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from mmengine.logging import print_log
from safetensors.torch import load_file
from torch import Tensor, nn

from mmsdpt.utils.downloads import how_to_get
from mmsdpt.utils.errors import InputError

PACKAGE_SCHEME = "mmsdpt://"
_ASSETS = {name: f"assets/{name}/{name}.safetensors" for name in ("mini_clip", "mini_glip")}
_LISTED = 5


class CheckpointError(InputError):
    """A checkpoint that is missing, unreadable, or does not fit the model."""


def resolve_checkpoint(name: str) -> str:
    """A local path or URL for ``name``; ``mmsdpt://mini_glip`` names the weights in the package.

    Raises:
        CheckpointError: if there is no such file, with where to get it when that is known.
    """
    if name.startswith(PACKAGE_SCHEME):
        asset = name[len(PACKAGE_SCHEME) :]
        if asset not in _ASSETS:
            raise CheckpointError(
                f"{name} is not one of the package's weights: {', '.join(sorted(_ASSETS))}"
            )
        name = str(files("mmsdpt") / _ASSETS[asset])
    if name.startswith(("http://", "https://")):
        return name
    if not Path(name).is_file():
        advice = how_to_get(name)
        raise CheckpointError(
            f"checkpoint not found: {name}; "
            + (f"{advice}, or " if advice else "")
            + "name another file with --cfg-options load_from=PATH"
        )
    return name


def read_checkpoint(path: str, map_location: str | torch.device = "cpu") -> dict:
    """Read a .pth or .safetensors file, or a URL of a .pth, without executing anything in it.

    Returns:
        The checkpoint's dict; a plain state dict is put under ``state_dict``.

    Raises:
        CheckpointError: if it cannot be read that way.
    """
    try:
        if path.endswith(".safetensors"):
            return dict(state_dict=load_file(path, device=str(map_location)))
        with torch.serialization.safe_globals(_harmless_types()):
            if path.startswith(("http://", "https://")):
                content = torch.hub.load_state_dict_from_url(
                    path, map_location=map_location, weights_only=True
                )
            else:
                content = torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        raise CheckpointError(
            f"{path} holds Python objects besides tensors, which mmsdpt does not unpickle"
            f" ({named[1] if named else 'damaged'}); if you trust it, re-save its state dict:"
            " torch.save({'state_dict': checkpoint['state_dict']}, PATH)"
        ) from None
    except Exception as error:  # a damaged pickle raises nearly anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path} cannot be read as a checkpoint ({reason})") from None
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}, expected a dict of tensors"
        )
    return dict(content) if "state_dict" in content else dict(state_dict=dict(content))


def _harmless_types() -> list:
    """Types in the training logs of OpenMMLab checkpoints; none runs code when it is rebuilt."""
    core = np._core if hasattr(np, "_core") else np.core
    return [
        # NumPy 2 moved these: a file names the place of the version that wrote it.
        *(
            _renamed(getattr(core.multiarray, name), f"numpy.{place}.multiarray", name)
            for name in ("_reconstruct", "scalar")
            for place in ("core", "_core")
        ),
        np.ndarray,
        np.dtype,
        *{type(np.dtype(kind)) for kind in "?bhilqBHILQefdSU"},
        # MMEngine's logs refer to their own methods, by getattr. Nobody reads them here, so that
        # neither has to be what it says.
        _renamed(lambda *args: None, "builtins", "getattr"),
        type("HistoryBuffer", (_Ignored,), {"__module__": "mmengine.logging.history_buffer"}),
    ]


class _Ignored:
    """An object of which nothing is kept."""

    def __setstate__(self, state: object) -> None:
        pass


def _renamed(function: Callable, module: str, name: str) -> Callable:
    """``function`` under the name that a pickle asks for."""

    def call(*args):
        return function(*args)

    call.__module__, call.__qualname__ = module, name
    return call


def load_base_weights(model: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    """Load the base model; every tensor of the host must be there with its shape.

    MMEngine warns and goes on with random weights where a checkpoint belongs to another model. Here
    that is an error.

    Raises:
        CheckpointError: naming what is missing or of another shape.
    """
    state = {name.removeprefix("module."): value for name, value in state.items()}
    own = {
        name: value for name, value in model.state_dict().items() if not name.startswith("tuners.")
    }
    missing = [name for name in own if name not in state]
    wrong = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(value.shape)}"
        for name, value in own.items()
        if name in state and state[name].shape != value.shape
    ]
    if missing or wrong:
        parts = [
            f"{len(names)} {what}: {_listed(names)}"
            for what, names in _problems(missing, wrong)
            if names
        ]
        raise CheckpointError(f"{origin} does not fit {type(model).__name__}: {'; '.join(parts)}")
    unexpected = [name for name in state if name not in own and not name.startswith("tuners.")]
    if unexpected:
        print_log(
            f"{origin} has {len(unexpected)} tensors that the model does not:"
            f" {_listed(unexpected)}",
            "current",
        )
    model.load_state_dict({name: state[name] for name in own}, strict=False)


def _problems(missing: list[str], wrong: list[str]) -> tuple[tuple[str, list[str]], ...]:
    return ("tensors missing", missing), ("tensors of another shape", wrong)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
