"""Full fine-tuning: the upper end of what a method can train."""

from __future__ import annotations

from mmsdpt.hosts.seams import ParameterSeam
from mmsdpt.registry import MODELS

from .host_parameters import HostParameters


@MODELS.register_module()
class FullFineTuning(HostParameters):
    """Trains every parameter of the host, as copies: the original model stays as it is.

    430,401,824 parameters on GLIP-L (the SDPT poster prints 397.59 M). Dropout and stochastic depth
    of the host are on while training, as in ordinary training. To save the memory of the copies,
    train the host without any tuner.

    Args: see :class:`HostParameters`.
    """

    def selects(self, seam: ParameterSeam) -> bool:
        return True
