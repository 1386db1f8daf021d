"""Optimizer construction over what trains."""

from __future__ import annotations

from mmengine.model import is_model_wrapper
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch import nn

from mmsdpt.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class TrainableOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """MMEngine's constructor, handing over only the parameters that require a gradient.

    MMEngine's own hands over all of them: the state of an optimizer for ten tokens would list every
    frozen tensor. ``paramwise_cfg`` works as usual.
    """

    def __call__(self, model: nn.Module) -> OptimWrapper:
        if not any(p.requires_grad for p in model.parameters()):
            raise ValueError("nothing would train: no parameter of the model requires a gradient")
        inner = model.module if is_model_wrapper(model) else model
        if not self.paramwise_cfg:
            # One group, as MMEngine builds it.
            return super().__call__(_OnlyTrainable(inner))
        return super().__call__(inner)

    def add_params(
        self, params: list[dict], module: nn.Module, prefix: str = "", is_dcn_module=None
    ) -> None:
        # MMEngine skips frozen parameters too, with a warning for every one of a thousand.
        if any(p.requires_grad for p in module.parameters()):
            super().add_params(params, module, prefix=prefix, is_dcn_module=is_dcn_module)
            # OpenMMLab's own version lists a frozen parameter beside trainable ones.
            params[:] = [group for group in params if group["params"][0].requires_grad]


class _OnlyTrainable:
    """What the constructor asks of a model without ``paramwise_cfg``: its parameters."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model

    def parameters(self):
        return (p for p in self._model.parameters() if p.requires_grad)
