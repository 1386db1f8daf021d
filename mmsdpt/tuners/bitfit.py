"""BitFit (Ben Zaken et al., ACL 2022): only the bias terms train."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

from mmengine.logging import print_log

from mmsdpt.hosts.seams import ParameterSeam
from mmsdpt.registry import MODELS

from .base import Seams
from .host_parameters import HostParameters

GROUPS = ("image", "neck", "text", "fusion", "fused_text", "dyconv", "outputs")
MORE_GROUPS = ("encoder", "decoder")  # named in a tuner file only if the host has them


@MODELS.register_module()
class BitFit(HostParameters):
    """Trains the parameters whose name ends in ``.bias`` or ``.in_proj_bias``.

    Swin's ``relative_position_bias_table``, and ``bias_lang`` and ``bias0`` of GLIP's head, are not
    bias terms of a layer and do not train.

    Args:
        groups: Parts of the host: ``image``, ``neck``, ``text``, ``fusion``, ``fused_text``,
            ``dyconv``, ``outputs``, and in Grounding DINO ``encoder`` and ``decoder``. BitFit is
            defined for a Transformer, so the parts of a detector are our choice. None: all parts.

    Raises:
        ValueError: for an unknown group.
    """

    settings = ("groups",)

    def __init__(
        self,
        *,
        seams: Seams,
        groups: Sequence[str] | None = None,
        **common: Any,
    ) -> None:
        parameters = cast(Sequence[ParameterSeam], seams.get("parameters", ()))
        present = {seam.group for seam in parameters}
        known = (*GROUPS, *(group for group in MORE_GROUPS if group in present))
        groups = known if groups is None else groups
        unknown = [group for group in groups if group not in known]
        if unknown or not groups:
            raise ValueError(f"groups must be some of {', '.join(known)}, got {list(groups)}")
        self.groups = tuple(group for group in known if group in groups)
        super().__init__(seams=seams, **common)

    def selects(self, seam: ParameterSeam) -> bool:
        return seam.group in self.groups and seam.role.endswith((".bias", ".in_proj_bias"))

    def breakdown(self) -> dict[str, int]:
        """Trained parameters by part of the host."""
        counts: Counter[str] = Counter()
        for seam in self.chosen:
            counts[seam.group] += seam.value().numel()
        return dict(counts)

    def start_from_host(self) -> None:
        super().start_from_host()
        counts = ", ".join(f"{group} {count:,}" for group, count in self.breakdown().items())
        print_log(f"{type(self).__name__} trains the bias terms of: {counts}", logger="current")


@MODELS.register_module()
class BitFitXMHA(BitFit):
    """BitFit on the fusion layers: biases of the six Linears of X-MHA and, by default, of the two
    layer norms before it. 81,920 parameters on GLIP-L (the SDPT poster prints 0.21 M).

    Args:
        layer_norms: Whether the layer norms' biases also train.

    Raises:
        ValueError: if the host has no fusion layers.
    """

    needs = ("parameters", "fusion")
    settings = ("layer_norms",)

    def __init__(
        self,
        *,
        seams: Seams,
        layer_norms: bool = True,
        **common: Any,
    ) -> None:
        self.layer_norms = layer_norms
        super().__init__(seams=seams, groups=("fusion",), **common)

    def selects(self, seam: ParameterSeam) -> bool:
        return super().selects(seam) and (self.layer_norms or "layer_norm" not in seam.role)
