"""Train the sides of a tuner in alternating phases instead of jointly."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmsdpt.registry import HOOKS


@HOOKS.register_module()
class AlternatingPhasesHook(Hook):
    """The poster's "asynchronous training": one set of tokens, which gets the gradients of the
    sides in alternating phases.

    The paper does not say how the phases alternate. Our interpretation: in a phase only one side's
    gradient reaches the tokens, while the other side still uses them, and the phase changes every
    ``interval`` steps of the optimizer, or epochs. The phase depends only on the counter, so a
    resumed run continues in the right one.

    Args:
        phases: Sides in order, passed to the tuner's ``set_phase``.
        interval: Length of a phase.
        by_epoch: Whether ``interval`` counts epochs instead of iterations.
        slot: The tuner's slot.
    """

    priority = "HIGH"

    def __init__(
        self,
        phases: Sequence[str] = ("image", "text"),
        interval: int = 1,
        by_epoch: bool = False,
        slot: str = "default",
    ) -> None:
        if interval < 1:
            raise ValueError(f"interval must be at least 1, got {interval}")
        if len(phases) < 2:
            raise ValueError(f"alternating needs at least two phases, got {list(phases)}")
        self.phases, self.interval = tuple(phases), interval
        self.by_epoch, self.slot = by_epoch, slot

    def _tuner(self, runner: Runner):
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        tuner = model._slot(self.slot)
        if not hasattr(tuner, "set_phase"):
            raise ValueError(
                f"{type(tuner).__name__} in slot {self.slot!r} has no phases to alternate"
            )
        return tuner

    def before_train(self, runner: Runner) -> None:
        for phase in self.phases:  # fail now rather than in a later phase
            self._tuner(runner).set_phase(phase)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        steps = runner.iter // runner.optim_wrapper._accumulative_counts
        count = runner.epoch if self.by_epoch else steps
        self._tuner(runner).set_phase(self.phases[count // self.interval % len(self.phases)])

    def after_train(self, runner: Runner) -> None:
        self._tuner(runner).set_phase()
