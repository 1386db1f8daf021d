"""The methods that a protocol compares, each read from a config of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmsdpt.hosts.base import resolve_slots
from mmsdpt.utils.errors import InputError

from .configs import read_config

ZERO_SHOT = "zero_shot"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.=-]*")
_SCHEDULE_ENDS = ("T_max", "end")


@dataclass(frozen=True)
class Method:
    """A method of the comparison.

    Attributes:
        name: On the command line and in the names of files.
        label: In tables and plots.
        config: Config that its tuner, optimizer, schedule and batch size are taken from; None:
            nothing is trained.
        ensemble: Use many sentences around a class name instead of one.
        epochs: Smallest number of shots to epochs; without an entry the config's number.
        settings: Settings of the tuner that take the place of the config's.
    """

    name: str
    label: str
    config: Path | None = None
    ensemble: bool = False
    epochs: Mapping[int, int] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def parts(self, shots: int | None = None, epochs: int | None = None) -> dict[str, Any]:
        """What of a config belongs to the method.

        Args:
            shots: Images of each class, which may decide the number of epochs.
            epochs: Epochs instead of the method's own.

        Returns:
            ``tuners`` by slot, ``tuner_files``, ``optim_wrapper``, ``param_scheduler``,
            ``train_cfg``, ``custom_hooks``, ``batch_size`` and ``template``, in plain types.

        Raises:
            InputError: if the config is no method's.
        """
        if self.config is None:
            return dict(tuners={}, template=None)
        content = _read(self.config)
        model = content["model"]
        slots = resolve_slots(model.get("tuner"), model.get("tuners"))
        if self.settings:
            if len(slots) != 1:
                raise InputError(f"{self.config} has {len(slots)} tuners; settings are for one")
            next(iter(slots.values())).update(self.settings)
        train_cfg = dict(content["train_cfg"])
        wanted = epochs or self._epochs(shots)
        schedulers = content.get("param_scheduler") or []
        schedulers = [schedulers] if isinstance(schedulers, Mapping) else schedulers
        if "max_epochs" not in train_cfg:
            raise InputError(f"{self.config} does not train by epochs, as protocols do")
        if wanted is not None:
            # What would begin after the end has no place: MMEngine refuses it.
            schedulers = [
                _stretched(each, train_cfg["max_epochs"], wanted)
                for each in schedulers
                if each.get("begin", 0) < wanted
            ]
            train_cfg["max_epochs"] = wanted
        set_classes = content.get("default_hooks", {}).get("classes") or {}
        return dict(
            tuners=slots,
            tuner_files=content.get("tuner_files") or {},
            optim_wrapper=content["optim_wrapper"],
            param_scheduler=schedulers,
            train_cfg=train_cfg,
            custom_hooks=content.get("custom_hooks") or [],
            batch_size=content["train_dataloader"]["batch_size"],
            template=set_classes.get("template"),
        )

    def _epochs(self, shots: int | None) -> int | None:
        fitting = [least for least in self.epochs if least <= (shots or 0)]
        return self.epochs[max(fitting)] if fitting else None

    @property
    def names_new_classes(self) -> bool:
        """Whether it can classify into classes that it was not trained on."""
        return not any(tuner.get("num_classes") for tuner in self.parts()["tuners"].values())


def presets(configs: Path) -> dict[str, Method]:
    """All methods that protocols know by name, in the order of the tables.

    Args:
        configs: The folder ``configs`` of the repository.
    """
    baselines, mudpt = configs / "clip_baselines", configs / "mudpt"
    every = (
        Method(ZERO_SHOT, "Zero-shot CLIP"),
        Method("zero_shot_ensemble", "Zero-shot CLIP, ensemble", ensemble=True),
        Method("linear_probe", "Linear probe", baselines / "linear_probe_vit_b16.py"),
        # Epochs by shots as in CoOp's experiments.
        Method(
            "coop",
            "CoOp",
            baselines / "coop_vit_b16.py",
            epochs={1: 50, 2: 100, 8: 200},
        ),
        Method("cocoop", "CoCoOp", baselines / "cocoop_vit_b16.py"),
        Method("vpt", "VPT deep", baselines / "vpt_vit_b16.py"),
        Method("independent_vl", "Independent V-L", baselines / "independent_vl_vit_b16.py"),
        Method("maple", "MaPLe", baselines / "maple_vit_b16.py"),
        Method("mudpt", "MuDPT", mudpt / "mudpt_vit_b16.py"),
        Method("mudpt_one_way", "MuDPT, one-way transformer", mudpt / "mudpt_one_way_vit_b16.py"),
        Method("mudpt_transformer", "MuDPT, transformer", mudpt / "mudpt_transformer_vit_b16.py"),
    )
    return {method.name: method for method in every}


def choose_methods(names: Sequence[str], known: Mapping[str, Method]) -> dict[str, Method]:
    """Methods by name.

    Args:
        names: Names of presets, or paths of configs of one's own.
        known: The presets.

    Raises:
        InputError: if there is no such preset or file.
    """
    chosen: dict[str, Method] = {}
    for name in names:
        if name.endswith(".py"):
            path = Path(name)
            if not path.is_file():
                raise InputError(f"the method's config {name} does not exist")
            method = Method(path.stem, path.stem, path)
        elif name in known:
            method = known[name]
        else:
            raise InputError(
                f"there is no method {name!r}; there are {', '.join(known)}, and configs of your"
                " own by their path (*.py)"
            )
        if not _NAME.fullmatch(method.name):
            raise InputError(f"{method.name!r} cannot name a method: use letters, digits and _")
        if method.name in chosen and chosen[method.name] != method:
            raise InputError(f"two methods are called {method.name!r}: rename one of the configs")
        chosen[method.name] = method
    return chosen


def _read(path: Path) -> dict[str, Any]:
    """A method's config as plain types."""
    content = read_config(path).to_dict()
    for name in ("model", "optim_wrapper", "train_cfg", "train_dataloader"):
        if name not in content:
            raise InputError(f"{path} has no {name}: name a config that tools/train.py can train")
    if content["model"].get("trainable"):
        raise InputError(
            f"{path} trains parameters of the model itself (trainable=...); protocols keep what a"
            " tuner learned, so let a tuner train instead"
        )
    if not (content["model"].get("tuner") or content["model"].get("tuners")):
        raise InputError(f"{path} has no tuner, so there is nothing to train")
    return content


def _stretched(scheduler: Mapping[str, Any], old: int, new: int) -> dict[str, Any]:
    """A schedule whose end, where it is that of the training, follows another number of epochs."""
    return {
        key: new if key in _SCHEDULE_ENDS and value == old else value
        for key, value in scheduler.items()
    }
