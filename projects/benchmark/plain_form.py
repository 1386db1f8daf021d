"""GLIP in the plain form of MMDetection, on the weights of a :class:`mmsdpt.GLIP`.

What a benchmark compares with: MMDetection's own X-MHA (all N x E queries, values and outputs),
its prediction layers, its loss and its text side (captions padded to ``max_tokens``, encoded at
every step). Three things cannot stay as they are there: the resize in the dynamic convolution is
GLIP's (bilinear), deformable convolution takes torchvision's operator where MMCV has none, and the
tuner's tokens are appended to the inputs of X-MHA. Modules are adopted, not copied: both forms
share every parameter.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmdet.models.dense_heads.atss_vlfusion_head import VLFusionModule as MMDetVLFusionModule
from mmdet.models.detectors import GLIP as MMDetGLIP
from mmdet.models.utils.vlfuse_helper import BiMultiHeadAttention as MMDetAttention
from mmengine.model import BaseModel
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

from mmsdpt.compat import has_compiled_ops
from mmsdpt.hosts.base import TunableMixin
from mmsdpt.hosts.glip.deform_conv import ModulatedDeformConv2d, read_flat
from mmsdpt.hosts.glip.detector import GLIP
from mmsdpt.hosts.glip.dyconv import DyConv
from mmsdpt.hosts.glip.fusion import BiMultiHeadAttention, VLFuse
from mmsdpt.hosts.glip.head import VLFusionModule


def _adopt(module: nn.Module, fast: nn.Module) -> None:
    """Give ``module`` the children and parameters of ``fast`` under the same names."""
    for name, child in fast.named_children():
        module.add_module(name, child)
    for name, parameter in fast.named_parameters(recurse=False):
        module.register_parameter(name, parameter)


class PlainAttention(MMDetAttention):
    """MMDetection's X-MHA; SDPT's tokens are appended to both inputs and their outputs cut off."""

    def __init__(self, fast: BiMultiHeadAttention) -> None:
        with torch.device("meta"):  # its own weights are replaced at once
            super().__init__(fast.v_dim, fast.l_dim, fast.embed_dim, fast.num_heads, fast.dropout)
        _adopt(self, fast)
        self.seam = fast.seam

    def forward(
        self,
        vision: Tensor,
        lang: Tensor,
        attention_mask_v: Tensor | None = None,
        attention_mask_l: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Shapes as in :meth:`mmsdpt.hosts.glip.fusion.BiMultiHeadAttention.forward`."""
        num_positions, num_words = vision.shape[1], lang.shape[1]
        tokens = self.seam.tokens()
        if tokens.image is not None:
            vision = torch.cat([vision, tokens.image.expand(len(vision), -1, -1)], dim=1)
        if tokens.text is not None:
            lang = torch.cat([lang, tokens.text.expand(len(lang), -1, -1)], dim=1)
            attention_mask_l = F.pad(attention_mask_l, (0, len(tokens.text)), value=1)
        delta_v, delta_l = super().forward(vision, lang, attention_mask_v, attention_mask_l)
        return delta_v[:, :num_positions], delta_l[:, :num_words]


class PlainDeformConv2d(nn.Module):
    """MMCV's operator where it is compiled, torchvision's elsewhere."""

    def __init__(self, fast: ModulatedDeformConv2d) -> None:
        super().__init__()
        _adopt(self, fast)
        self.stride, self.padding, self.dilation = fast.stride, fast.padding, fast.dilation

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        """(B, C, H, W) with maps of any size, see :func:`read_flat`, to (B, O, Ho, Wo)."""
        step, pad, dilation = self.stride, self.padding, self.dilation
        if has_compiled_ops():
            from mmcv.ops import modulated_deform_conv2d

            return modulated_deform_conv2d(
                x, offset, mask, self.weight, self.bias, step, pad, dilation
            )
        kernel = self.weight.shape[2:]
        size = [
            (x.shape[2 + i] + 2 * pad[i] - dilation[i] * (kernel[i] - 1) - 1) // step[i] + 1
            for i in (0, 1)
        ]
        offset, mask = (read_flat(m.contiguous(), m.shape[1], tuple(size)) for m in (offset, mask))
        return deform_conv2d(x, offset, self.weight, self.bias, step, pad, dilation, mask)


class PlainDyConv(nn.Module):
    """MMDetection's dynamic convolution, with GLIP's resize."""

    def __init__(self, fast: DyConv) -> None:
        super().__init__()
        _adopt(self, fast)
        self.attnconv, self.offset = fast.attnconv, fast.offset
        for block in self.dyconvs:
            if isinstance(block.conv, ModulatedDeformConv2d):
                block.conv = PlainDeformConv2d(block.conv)

    def forward(self, inputs: dict) -> dict:
        """Shapes as in :meth:`mmsdpt.hosts.glip.dyconv.DyConv.forward`."""
        levels = inputs["visual"]
        outputs = []
        for index, feature in enumerate(levels):
            maps = {}
            if self.offset is not None:
                both = self.offset(feature)
                maps = {"offset": both[:, :18], "mask": both[:, 18:].sigmoid()}
            terms = [self.dyconvs[1](feature, **maps)]
            if index > 0:
                terms.append(self.dyconvs[2](levels[index - 1], **maps))
            if index < len(levels) - 1:
                coarser = self.dyconvs[0](levels[index + 1], **maps)
                size = feature.shape[2:]
                terms.append(F.interpolate(coarser, size, mode="bilinear", align_corners=True))
            stacked = torch.stack(terms)
            if self.attnconv is not None:
                stacked = stacked * F.hardsigmoid(torch.stack([self.attnconv(t) for t in terms]))
            outputs.append(self.relu(stacked.mean(dim=0)))
        return {"visual": outputs, "lang": inputs["lang"]}


class PlainVLFusionModule(nn.Module):
    """MMDetection's prediction layers behind the plain tower, on all of the padded text."""

    forward = MMDetVLFusionModule.forward

    def __init__(self, fast: VLFusionModule) -> None:
        super().__init__()
        _adopt(self, fast)
        self.num_base_priors, self.early_fuse = 1, fast.early_fuse
        for i, layer in enumerate(self.dyhead_tower):
            if isinstance(layer, VLFuse):
                layer.b_attn.attn = PlainAttention(layer.b_attn.attn)
            elif isinstance(layer, DyConv):
                self.dyhead_tower[i] = PlainDyConv(layer)


class PlainGLIP(TunableMixin, MMDetGLIP):
    """MMDetection's detector on the parts of ``host``, which must not be used after that.

    What is frozen takes no gradient, as in any toolbox, so autograd records nothing of the frozen
    image and text side here either.

    Args:
        host: A GLIP with its weights loaded and its tuners attached.
    """

    def __init__(self, host: GLIP) -> None:
        BaseModel.__init__(self, data_preprocessor=host.data_preprocessor)
        _adopt(self, host)
        self.train_cfg, self.test_cfg = host.train_cfg, host.test_cfg
        self._special_tokens = host._special_tokens
        self.language_model.pad_to_max = True
        self.bbox_head.head = PlainVLFusionModule(self.bbox_head.head)
