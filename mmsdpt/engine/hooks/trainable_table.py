"""Check and log the trainable parameters before the first step."""

from __future__ import annotations

from collections import Counter

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from rich.console import Console
from rich.table import Table
from torch import nn

from mmsdpt.registry import HOOKS
from mmsdpt.tuners.base import Tuner


def trainable_table(model: nn.Module) -> str:
    """Numbers of trainable parameters, grouped by the first three parts of their names (such as
    ``tuners.default.tokens``), and in total.
    """
    rows: Counter[str] = Counter()
    tensors: Counter[str] = Counter()
    total = 0
    for name, parameter in model.named_parameters():
        total += parameter.numel()
        if parameter.requires_grad:
            prefix = ".".join(name.split(".")[:3])
            rows[prefix] += parameter.numel()
            tensors[prefix] += 1
    trainable = sum(rows.values())
    table = Table(title="Trainable parameters", title_justify="left")
    table.add_column("name")
    table.add_column("tensors", justify="right")
    table.add_column("parameters", justify="right")
    for prefix, count in rows.items():
        table.add_row(prefix, str(tensors[prefix]), f"{count:,}")
    table.add_section()
    share = trainable / total if total else 0.0
    table.add_row(f"{share:.4%} of {total:,}", str(sum(tensors.values())), f"{trainable:,}")
    console = Console(width=100, no_color=True)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


@HOOKS.register_module()
class TrainableTableHook(Hook):
    """Log the table of trainable parameters at the start, and refuse a run that trains nothing.

    It also checks that the optimizer holds exactly the parameters that require a gradient, as one
    that was frozen or unfrozen after the optimizer was built would silently train or not train, and
    that all parameters of an unfrozen tuner train.
    """

    priority = "VERY_HIGH"

    def before_train(self, runner: Runner) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        wanted = {id(p): name for name, p in model.named_parameters() if p.requires_grad}
        if not wanted:
            raise ValueError("nothing would train: every parameter of the model is frozen")
        held = {id(p) for group in runner.optim_wrapper.param_groups for p in group["params"]}
        forgotten = [name for key, name in wanted.items() if key not in held]
        if forgotten:
            raise ValueError(
                f"the optimizer lacks {len(forgotten)} trainable parameters, such as"
                f" {forgotten[0]}: they were unfrozen after the optimizer was built"
            )
        for slot, tuner in getattr(model, "tuners", {}).items():
            if not isinstance(tuner, Tuner) or tuner.frozen:
                continue
            expected = tuner.num_trainable()
            counted = sum(p.numel() for p in tuner.parameters() if p.requires_grad)
            if counted != expected:
                raise ValueError(
                    f"{type(tuner).__name__} in slot {slot!r} should train {expected:,} parameters"
                    f" (num_trainable()), but {counted:,} train: part of it is frozen"
                )
        runner.logger.info("\n" + trainable_table(model))
