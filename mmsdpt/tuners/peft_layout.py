"""Write LoRA and DoRA as files of the peft library, and read them.

peft has a pair A (r x in), B (out x r) for each module that it changes, like
:class:`~mmsdpt.tuners.lora.LoRA` for each weight. :class:`~mmsdpt.tuners.clip_lora.CLIPLoRA` has
three pairs for each weight, one for each third of its rows. They are written as one pair of rank 3r
whose B is block-diagonal. The weight of a ``MultiheadAttention``, which contains query, key and
value, is also one pair in peft. There peft also changes the output layer; B = 0 means no change.
For :class:`~mmsdpt.tuners.dora.DoRA` peft also has the lengths m (out), but it does not support
DoRA on a ``MultiheadAttention``. Other methods cannot be written.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from mmsdpt.utils.atomic import staged, write_atomically
from mmsdpt.utils.errors import InputError, listed, printable

from .dora import DoRA
from .files import host_values
from .lora import LoRA

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
# Endings of parameter names in peft, after the module's name.
_A, _B, _LENGTHS = "A.weight", "B.weight", "magnitude_vector"


def _lora(host: nn.Module, slot: str) -> LoRA:
    tuner = host._slot(slot)
    if not isinstance(tuner, LoRA):
        raise InputError(
            f"{type(tuner).__name__} has no form in peft: only LoRA and DoRA change weights by a"
            " product of two matrices"
        )
    if isinstance(tuner, DoRA) and any(
        isinstance(seam.module, nn.MultiheadAttention) for seam in tuner.chosen
    ):
        raise InputError(
            f"{type(tuner).__name__} on {type(host).__name__} has no form in peft, which changes no"
            " MultiheadAttention so: merge it (tools/model_converters/merge_tuner.py), or use LoRA"
        )
    return tuner


def _parts(tuner: LoRA, i: int) -> dict[str, Tensor]:
    """The tensors that peft has for the change of the i-th weight."""
    down, up = tuner.factors(i)
    found = {_A: down, _B: up}
    return {**found, _LENGTHS: tuner.magnitude[i]} if isinstance(tuner, DoRA) else found


def _rank_and_alpha(tuner: LoRA) -> tuple[int, float]:
    """peft's r and lora_alpha; the scale is lora_alpha / r."""
    rank = tuner.factors(0)[0].shape[0]
    return rank, tuner.scale * rank


def _modules(tuner: LoRA) -> list[str]:
    """The module of each changed weight."""
    return [seam.name.rpartition(".")[0] for seam in tuner.chosen]


def write_peft(host: nn.Module, folder: str | Path, slot: str = "default") -> Path:
    """Write a slot's LoRA or DoRA so that ``PeftModel.from_pretrained`` can read it.

    Args:
        host: Model with the slot. The adapter fits the same host without tuners.
        folder: Where to write ``adapter_config.json`` and ``adapter_model.safetensors``.
        slot: Slot to write.

    Raises:
        InputError: if the slot's method is not LoRA or DoRA, peft does not support it on this host,
            or parameters of the host trained together with it.
    """
    tuner = _lora(host, slot)
    if others := host_values(host, tuner):
        raise InputError(
            f"slot {slot!r} trained together with parameters of the host ({listed(others)}), for"
            " which an adapter of peft has no place: merge it"
            " (tools/model_converters/merge_tuner.py), or train it without model.trainable"
        )
    names = _modules(tuner)
    rank, alpha = _rank_and_alpha(tuner)
    state: dict[str, Tensor] = {}
    for i, (name, seam) in enumerate(zip(names, tuner.chosen, strict=True)):
        for part, value in _parts(tuner, i).items():
            state[f"{_PREFIX}{name}.lora_{part}"] = value.detach().cpu().contiguous()
        if isinstance(seam.module, nn.MultiheadAttention):
            width = seam.module.embed_dim
            out = f"{_PREFIX}{name}.base_layer.out_proj"
            state[f"{out}.lora_{_A}"] = torch.zeros(rank, width)
            state[f"{out}.lora_{_B}"] = torch.zeros(width, rank)
    config = dict(
        peft_type="LORA",
        r=rank,
        lora_alpha=alpha,
        lora_dropout=0.0,
        bias="none",
        use_dora=isinstance(tuner, DoRA),
        target_modules=names,
    )
    with staged(folder, last=CONFIG) as stage:
        write_atomically(stage / CONFIG, json.dumps(config, indent=1).encode())
        write_atomically(stage / WEIGHTS, save(state, metadata={"format": "pt"}))
    return Path(folder)


def read_peft(host: nn.Module, folder: str | Path, slot: str = "default") -> None:
    """Fill a slot's LoRA or DoRA from an adapter of peft. For weights that it does not change,
    B is 0 and, with DoRA, the lengths are those of the host's rows.

    Args:
        host: Model with the slot, with the adapter's rank and alpha.
        folder: Folder with ``adapter_config.json`` and ``adapter_model.safetensors``.
        slot: Slot to fill.

    Raises:
        InputError: if the adapter cannot be read, is not complete, has another method, rank or
            scale than the slot, or changes a weight that the slot does not change.
    """
    tuner = _lora(host, slot)
    folder = Path(folder)
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        state = load_file(folder / WEIGHTS)
        kind = config["peft_type"]
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise InputError(f"{folder} is not an adapter of peft ({printable(error)})") from None
    unusual = [name for name in ("use_rslora", "rank_pattern", "alpha_pattern") if config.get(name)]
    dora = isinstance(tuner, DoRA)
    if bool(config.get("use_dora")) != dora:
        unusual.append("without use_dora" if dora else "use_dora")
    if kind != "LORA" or unusual:
        raise InputError(
            f"{folder} is {printable(kind)} {', '.join(unusual)}, expected plain"
            f" {'DoRA' if dora else 'LoRA'}"
        )
    rank, alpha = config.get("r"), config.get("lora_alpha")
    wanted = _rank_and_alpha(tuner)
    same_alpha = isinstance(alpha, (int, float)) and math.isclose(alpha, wanted[1])
    if rank != wanted[0] or not same_alpha:
        raise InputError(
            f"{folder} has r, lora_alpha = {printable((rank, alpha))}, but the model's"
            f" {type(tuner).__name__} {wanted[0]}, {wanted[1]:g}: set rank and alpha in its config"
        )
    places = {name: i for i, name in enumerate(_modules(tuner))}
    new: dict[int, dict[str, Tensor]] = {}
    for key, value in state.items():
        name, _, rest = key.removeprefix(_PREFIX).partition(".lora_")
        if name.endswith(".base_layer.out_proj") and (
            rest == _A or (rest == _B and not value.any())
        ):
            continue
        place = places.get(name)
        own = None if place is None else _parts(tuner, place).get(rest)
        if place is None or own is None or own.shape != value.shape:
            raise InputError(
                f"{folder} changes {printable(key)} {tuple(value.shape)}, which"
                f" {type(tuner).__name__} on {type(host).__name__} does not"
            )
        new.setdefault(place, {})[rest] = value
    if not new:
        raise InputError(f"{folder} has no LoRA matrices")
    for i, parts in new.items():
        if missing := [part for part in _parts(tuner, i) if part not in parts]:
            raise InputError(
                f"{folder} is not complete: {_modules(tuner)[i]} has no lora_{missing[0]}; save the"
                " adapter again"
            )
    try:
        pairs = {i: tuner.from_factors(parts[_A], parts[_B]) for i, parts in new.items()}
    except ValueError as error:
        raise InputError(f"{folder} does not fit the model: {error}") from None
    tuner.start_from_host()
    with torch.no_grad():
        for up in tuner.up:
            up.zero_()
        for i, (down, up) in pairs.items():
            tuner.down[i].copy_(down)
            tuner.up[i].copy_(up)
            if isinstance(tuner, DoRA):
                tuner.magnitude[i].copy_(new[i][_LENGTHS])
    tuner._ready = True
