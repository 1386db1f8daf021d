r"""Linear probing: only the prediction layers train, on GLIP and on CLIP.

**GLIP** (:class:`LinearProbing`; Li et al., CVPR 2022): the box and classification predictors.

**CLIP** (:class:`CLIPLinearProbe`; Radford et al., ICML 2021, section 3.2): logistic regression on
image features in place of the class texts, C (e + 1) parameters:

    logits = x W^T + b              x (e) the image feature, not normalised; W (C x e), b (C)

It trains like any other method, or, as in the paper and in CoOp's comparison, by
:meth:`CLIPLinearProbe.fit` on features that are computed once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from torch import Tensor, nn

from mmsdpt.hosts.clip.seams import LogitsSeam
from mmsdpt.hosts.seams import ForwardState, ParameterSeam
from mmsdpt.registry import MODELS
from mmsdpt.utils.errors import InputError
from mmsdpt.utils.logistic_regression import search_logistic_regression

from .base import Seams, Tuner
from .host_parameters import HostParameters
from .layers.common import positive_integer


@MODELS.register_module()
class LinearProbing(HostParameters):
    """Trains the box and centerness predictors and the layer that compares regions with words.

    GLIP's "linear probing" trains the box and classification heads; for GLIP these are
    ``bbox_pred``, ``centerness``, ``dot_product_projection_text``, ``log_scale``, ``bias_lang`` and
    ``bias0``, 198,919 parameters on GLIP-L (the SDPT poster prints 1.96 M). The scale of each level
    does not train.

    On Grounding DINO these are the box predictors of every decoder layer and of the proposals
    (``reg_branches``, three Linears each), and the scale and bias of the comparison with words, if
    the model has them. With width 256 and six decoder layers these are 928,284 parameters, and
    seven more on MM-Grounding-DINO. The comparison itself has no weights.

    Args: see :class:`HostParameters`.
    """

    def selects(self, seam: ParameterSeam) -> bool:
        return seam.group == "outputs" and ".scales." not in seam.name


@MODELS.register_module()
class CLIPLinearProbe(Tuner):
    """A linear classifier in place of the class texts.

    It works only with the classes that it was trained on, in any order, and raises an error for
    others.

    Args:
        num_classes: C.

    Attributes:
        weight: (C, e), zero at first.
        bias: (C,), zero at first.
        classes: Fingerprint of the names of the classes it was trained on; 0 before training.

    Raises:
        ValueError: if ``num_classes`` is not a positive integer, or another tuner replaces the
            logits.
    """

    needs: ClassVar[tuple[str, ...]] = ("logits",)
    settings: ClassVar[tuple[str, ...]] = ("num_classes",)
    classes: Tensor

    def __init__(self, *, seams: Seams, num_classes: int, **common: Any) -> None:
        super().__init__(seams=seams, **common)
        self.num_classes = positive_integer("num_classes", num_classes)
        (seam,) = seams["logits"]
        self.width = seam.widths["width"]
        self.weight = nn.Parameter(torch.zeros(num_classes, self.width))
        self.bias = nn.Parameter(torch.zeros(num_classes))
        self.register_buffer("classes", torch.zeros((), dtype=torch.int64))
        seam.connect(self, self._classify, exclusive=True)

    def _classify(self, seam: LogitsSeam, logits: Tensor, state: ForwardState) -> Tensor:
        x = state.pooled_image
        assert x is not None  # the image is encoded before the logits
        if logits.requires_grad and not x.requires_grad:
            raise InputError(
                "CLIPLinearProbe reads only the image, so tuners on the class texts get no"
                " gradient, so they cannot be stacked: freeze or remove one of them"
            )
        rows = self._check(state.class_names)
        with torch.autocast(x.device.type, enabled=False):  # bfloat16 would round the logits
            x = F.linear(x.to(self.weight.dtype), self.weight, self.bias)
        return x if rows is None else x[..., rows]

    @property
    def per_class(self) -> bool:
        return True

    @torch.no_grad()
    def _check(self, names: Sequence[str]) -> list[int] | None:
        """Refuse classes that were not trained; in training, store the classes.

        Returns:
            The row of each class; None if they have the same order as in training.
        """
        if len(names) != self.num_classes:
            raise InputError(
                f"CLIPLinearProbe has num_classes={self.num_classes}, but the model has"
                f" {len(names)} classes: a linear probe knows only the classes it was trained on"
            )
        if self.classes.is_meta:
            return None
        found, known = _fingerprint(names), int(self.classes)
        if not known and self.training:
            self.classes.fill_(found)
        try:
            if known and known != found and not self.trained_classes:  # files without names
                raise InputError("their names are not in the file")
            return self.class_rows(names)
        except InputError as error:
            raise InputError(
                f"CLIPLinearProbe was trained on {self.num_classes} other classes than"
                f" {', '.join(names[:3])}, ...: a linear probe knows only its own ({error})"
            ) from None

    @torch.no_grad()
    def fit(
        self,
        features: Tensor,
        labels: Tensor,
        val_features: Tensor,
        val_labels: Tensor,
        class_names: Sequence[str],
    ) -> float:
        """Fit with scikit-learn instead of gradient descent, and set the parameters in place.

        Features are ``state.pooled_image`` of the host's ``encode_image(images, state)``.

        Args:
            features: (N, e), not normalised.
            labels: (N,), from 0 to C - 1; every class occurs.
            val_features: (M, e); the strength of the regularisation is chosen on these.
            val_labels: (M,).
            class_names: The C names.

        Returns:
            The chosen C of scikit-learn's ``LogisticRegression``.

        Raises:
            InputError: if shapes or labels do not fit.
            ImportError: if scikit-learn is not installed.
        """
        if len(class_names) != self.num_classes:
            raise InputError(f"expected {self.num_classes} class names, got {len(class_names)}")
        for name, x, y in (("", features, labels), ("val_", val_features, val_labels)):
            if x.dim() != 2 or x.shape[1] != self.width or y.shape != x.shape[:1] or not len(y):
                raise InputError(
                    f"{name}features must be (N, {self.width}) and {name}labels (N,) with N of at"
                    f" least 1, got {tuple(x.shape)} and {tuple(y.shape)}"
                )
        found = torch.unique(labels).tolist()
        if found != list(range(self.num_classes)) or self.num_classes < 2:
            raise InputError(
                "a linear probe needs two classes or more, with training images of every one: the"
                f" labels must be 0 to {self.num_classes - 1}, got {found[:20]}"
            )
        weight, bias, strength = search_logistic_regression(
            *(part.float().cpu().numpy() for part in (features, val_features)),
            *(part.cpu().numpy() for part in (labels, val_labels)),
        )
        self.weight.copy_(torch.from_numpy(weight))
        self.bias.copy_(torch.from_numpy(bias))
        self.classes.fill_(_fingerprint(class_names))
        self.trained_classes = tuple(class_names)
        print_log(f"Fitted the linear probe with C = {strength:.3g}", logger="current")
        return strength


def _fingerprint(names: Sequence[str]) -> int:
    """A number for a list of names; never 0."""
    digest = hashlib.sha256("\n".join(names).encode()).digest()
    return int.from_bytes(digest[:7], "big") + 1
