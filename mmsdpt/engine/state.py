"""The state that a run needs to resume bit for bit: trained tensors, random state and MMEngine's
message hub, readable without unpickling code.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging.history_buffer import HistoryBuffer
from mmengine.optim import OptimWrapper
from mmengine.runner import BaseLoop, EpochBasedTrainLoop
from torch import Tensor, nn

from mmsdpt.utils.data_files import dataset_configs

# MMEngine keeps a million values of every scalar. After some epochs of COCO they take a hundred
# times the space of the tokens, but a resumed run reads only the window that its log averages over.
KEPT_VALUES = 500
MAX_FACTS_BYTES = 100_000


def trained_state(model: nn.Module) -> dict[str, Tensor]:
    """The part of the model in a run's checkpoint.

    With tuners: everything under ``tuners.`` (frozen slots too, they are small and not in the base
    checkpoint) and the host's trainable parameters. Without tuners, as in pre-training: the whole
    state dict.
    """
    tuners = getattr(model, "tuners", {})
    for tuner in tuners.values():
        tuner.prepare()  # sets the values that start from the host's weights
    state = model.state_dict()
    if not len(tuners):
        return dict(state)
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    return {
        name: value
        for name, value in state.items()
        if name.startswith("tuners.") or name in trainable
    }


def unfinished_gradients(optim_wrapper: OptimWrapper) -> dict[int, Tensor]:
    """Gradients that accumulate for a later optimizer step (``accumulative_counts``), on the CPU,
    by the index of their parameter; empty just after a step.
    """
    if optim_wrapper.should_update():  # about the last iteration
        return {}
    parameters = parameters_of(optim_wrapper)
    return {i: p.grad.cpu() for i, p in enumerate(parameters) if p.grad is not None}


def parameters_of(optim_wrapper: OptimWrapper) -> list[nn.Parameter]:
    """The parameters of an optimizer, in the order of its state."""
    return [p for group in optim_wrapper.optimizer.param_groups for p in group["params"]]


def progress(loop: BaseLoop) -> tuple[int, int]:
    """Finished and total epochs of a training, or iterations if its loop counts these."""
    if isinstance(loop, EpochBasedTrainLoop):
        return loop.epoch, loop.max_epochs
    return loop.iter, loop.max_iters


def stopped_early(loop: BaseLoop) -> bool:
    """Whether a hook such as :class:`mmsdpt.EarlyStoppingHook` stopped the training early."""
    done, end = progress(loop)
    return loop.stop_training and done < end


def random_state(devices: bool = True) -> dict:
    """State of the random generators of Python, NumPy and torch, in types that ``weights_only``
    loading accepts.

    Args:
        devices: Whether to include the GPU. A worker process must not access it.
    """
    version, internal, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()
    return dict(
        python=[version, list(internal), gauss],
        numpy=[
            name,
            torch.from_numpy(keys.astype(np.int64)),
            int(position),
            int(has_gauss),
            float(cached),
        ],
        torch=torch.get_rng_state(),
        cuda=torch.cuda.get_rng_state() if devices and torch.cuda.is_available() else None,
    )


def set_random_state(state: dict) -> None:
    """Restore the state from :func:`random_state`."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())


def pack_messages(state: dict, window: int = 0) -> dict:
    """The hub's state in types that ``weights_only`` loading accepts.

    Args:
        state: ``MessageHub.state_dict()``.
        window: Longest window that the log averages over.

    Returns:
        The last :data:`KEPT_VALUES` values of every scalar, or ``window`` if that is more, and the
        plain part of the runtime information.
    """
    kept = max(KEPT_VALUES, window)
    scalars = {}
    for name, buffer in state["log_scalars"].items():
        values, counts = (np.asarray(part)[-kept:] for part in buffer.data)
        scalars[name] = dict(
            values=torch.tensor(values, dtype=torch.float64),
            counts=torch.tensor(counts, dtype=torch.int64),
            max_length=buffer.max_length,
        )
    information = {name: plain(value) for name, value in state["runtime_info"].items()}
    return dict(
        log_scalars=scalars,
        runtime_info={
            name: value
            for name, value in information.items()
            if isinstance(value, (str, int, float, bool, list, type(None)))
        },
        resumed_keys=dict(state["resumed_keys"]),
    )


def unpack_messages(packed: dict) -> dict:
    """Inverse of :func:`pack_messages`, for ``MessageHub.load_state_dict``."""
    scalars = {
        name: HistoryBuffer(item["values"].tolist(), item["counts"].tolist(), item["max_length"])
        for name, item in packed["log_scalars"].items()
    }
    known = {**scalars, **packed["runtime_info"]}
    return dict(
        log_scalars=scalars,
        runtime_info=packed["runtime_info"],
        resumed_keys={name: flag for name, flag in packed["resumed_keys"].items() if name in known},
    )


def plain(value: Any) -> Any:
    """``value``, with numbers of NumPy or torch converted to Python."""
    if isinstance(value, np.generic) or (isinstance(value, torch.Tensor) and value.numel() == 1):
        return value.item()
    return value


def is_score(value: Any) -> bool:
    """Whether a metric's value can be compared; COCO's metric gives -1 if there are no boxes."""
    value = plain(value)
    return isinstance(value, (int, float)) and math.isfinite(value) and value != -1


def run_settings(cfg: Mapping[str, Any]) -> dict[str, str | float | bool | None]:
    """The settings that matter for a resumed run: optimizer, schedules, loop and batch size, by
    their names in the config.
    """
    loader = cfg.get("train_dataloader") or {}
    found: dict[str, str | float | bool | None] = {}
    if isinstance(loader, Mapping):
        found["train_dataloader.batch_size"] = loader.get("batch_size")
    for name in ("views", "seed", "dtype") if cfg.get("feature_cache") is not None else ():
        found[f"feature_cache.{name}"] = cfg["feature_cache"].get(name)
    if cfg.get("encoder_dtype") is not None:
        found["encoder_dtype"] = cfg["encoder_dtype"]

    def add(name: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for key, item in value.items():
                add(f"{name}.{key}", item)
        elif isinstance(value, (list, tuple)):
            for i, item in enumerate(value):
                add(f"{name}.{i}", item)
        else:
            known = value is None or isinstance(value, (str, int, float, bool))
            found[name] = value if known else str(value)

    for name in ("optim_wrapper", "param_scheduler", "train_cfg"):
        add(name, cfg.get(name))
    return found


def tuner_files(host: nn.Module, folder: str | Path, prefix: str = "") -> dict[str, Path]:
    """Paths of the tuner files of a run, by slot."""
    slots = [slot for slot, tuner in getattr(host, "tuners", {}).items() if not tuner.frozen]
    names = ["tuner"] if len(slots) == 1 else [f"tuner_{slot}" for slot in slots]
    files = (Path(folder) / f"{prefix}{name}.safetensors" for name in names)
    return dict(zip(slots, files, strict=True))


def model_facts(cfg: Mapping[str, Any], host: nn.Module, dataset: Any) -> dict[str, Any]:
    """The metadata in a tuner file from which its model can be rebuilt.

    Args:
        cfg: Config of the run.
        host: Model of the run.
        dataset: Training dataset.

    Returns:
        ``model``: ``scope`` (of the registry), ``load_from`` (the base weights) and ``config``.
        ``data``: ``captions`` (GLIP's caption prompts by class), ``templates`` (CLIP's sentences),
        ``image_size`` and the test ``pipeline``. Classes are under ``extra``. Values that are not
        JSON, or larger than :data:`MAX_FACTS_BYTES`, are None.
    """
    loader = cfg.get("test_dataloader") or cfg.get("val_dataloader")
    tested = next(dataset_configs(loader.get("dataset") if isinstance(loader, Mapping) else {}), {})
    return dict(
        model=dict(
            scope=cfg.get("default_scope"),
            load_from=_json(cfg.get("load_from")),
            config=_json(cfg.get("model")),
        ),
        data=dict(
            captions=_json(getattr(dataset, "caption_prompt", None)),
            templates=list(getattr(host, "templates", ())) or None,
            image_size=_json(tested.get("image_size")),
            pipeline=_json(tested.get("pipeline")),
        ),
    )


def _json(value: Any) -> Any:
    """The value as JSON types, or None if it cannot be converted or is too long."""
    try:
        text = json.dumps(value)
    except (TypeError, ValueError):  # a class or a function in place of its name
        return None
    return json.loads(text) if len(text) <= MAX_FACTS_BYTES else None
