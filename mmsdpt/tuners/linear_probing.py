"""Linear probing as in GLIP's paper (Li et al., CVPR 2022): only the prediction layers train."""

from __future__ import annotations

from mmsdpt.hosts.seams import ParameterSeam
from mmsdpt.registry import MODELS

from .host_parameters import HostParameters


@MODELS.register_module()
class LinearProbing(HostParameters):
    """Trains the box and centerness predictors and the layer that compares regions with words.

    GLIP's "linear probing" trains the box and classification heads; for GLIP these are
    ``bbox_pred``, ``centerness``, ``dot_product_projection_text``, ``log_scale``, ``bias_lang`` and
    ``bias0``, 198,919 parameters on GLIP-L. The scale of each level stays, as in the definition
    that the SDPT poster's row is compared with here (the poster prints 1.96 M).

    Args: see :class:`HostParameters`.
    """

    def selects(self, seam: ParameterSeam) -> bool:
        return seam.group == "outputs" and ".scales." not in seam.name
