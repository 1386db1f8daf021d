"""Full fine-tuning: all parameters train, the most that a method can train."""

from __future__ import annotations

from mmsdpt.hosts.seams import ParameterSeam
from mmsdpt.registry import MODELS

from .host_parameters import HostParameters


@MODELS.register_module()
class FullFineTuning(HostParameters):
    """Trains a copy of every parameter of the host; the original model does not change.

    430,401,824 parameters on GLIP-L (the SDPT poster prints 397.59 M). Dropout and stochastic depth
    of the host are on during training, as usual. To save the memory of the copies, train the host
    without any tuner.

    Args: see :class:`HostParameters`.
    """

    def selects(self, seam: ParameterSeam) -> bool:
        return True
