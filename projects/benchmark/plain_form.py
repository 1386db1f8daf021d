"""GLIP in the plain form of MMDetection, on the weights of a :class:`mmsdpt.GLIP`.

What a benchmark compares with: MMDetection's own Swin (glip_step.py puts it in), X-MHA (all N x E
queries, values and outputs), its prediction layers, its loss and its text side (captions padded to
``max_tokens``, encoded at every step). Three things cannot stay as they are there: the resize in
the dynamic convolution is GLIP's (bilinear), deformable convolution takes torchvision's operator
where MMCV has none, and the tuner's tokens are appended to the inputs of X-MHA. Modules are
adopted, not copied: both forms
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
from mmsdpt.hosts.glip.detector import GLIP
from mmsdpt.hosts.glip.dyconv import DyConv
from mmsdpt.hosts.glip.fusion import VLFuse
from mmsdpt.hosts.glip.head import VLFusionModule
from mmsdpt.hosts.grounding.fusion import BiMultiHeadAttention


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
        own_words: None = None,
    ) -> tuple[Tensor, Tensor]:
        """Shapes as in :meth:`mmsdpt.hosts.grounding.fusion.BiMultiHeadAttention.forward`."""
        num_positions, num_words = vision.shape[1], lang.shape[1]
        tokens = self.seam.tokens()
        if tokens.image is not None:
            vision = torch.cat([vision, tokens.image.expand(len(vision), -1, -1)], dim=1)
        if tokens.text is not None:
            lang = torch.cat([lang, tokens.text.expand(len(lang), -1, -1)], dim=1)
            attention_mask_l = F.pad(attention_mask_l, (0, len(tokens.text)), value=1)
        delta_v, delta_l = super().forward(vision, lang, attention_mask_v, attention_mask_l)
        return delta_v[:, :num_positions], delta_l[:, :num_words]


def plain_conv(
    module: nn.Module, x: Tensor, stride: int, maps: tuple[Tensor, Tensor] | None
) -> Tensor:
    """A ``Conv3x3Norm``, deformable with an offset and a mask map: by MMCV's operator where it is
    compiled, by torchvision's elsewhere.
    """
    conv, norm = module.conv, module.bn
    if maps is None:
        x = F.conv2d(x, conv.weight, conv.bias, stride=stride, padding=1)
    elif has_compiled_ops():
        from mmcv.ops import modulated_deform_conv2d

        # On a CPU it reads memory as it lies, whatever the strides.
        offset, mask = (part.contiguous() for part in maps)
        x = modulated_deform_conv2d(x.contiguous(), offset, mask, conv.weight, conv.bias, stride, 1)
    else:
        size = [(s - 1) // stride + 1 for s in x.shape[2:]]

        def flat(values: Tensor) -> Tensor:
            """MMCV's way with maps of another size: the first values of each image's memory."""
            values = values.to(conv.weight.dtype)
            count = values.shape[1] * size[0] * size[1]
            return torch.stack([v.reshape(-1)[:count].reshape(-1, *size) for v in values])

        offset, mask, x = flat(maps[0]), flat(maps[1]), x.to(conv.weight.dtype)
        with torch.autocast(x.device.type, enabled=False):
            x = deform_conv2d(
                x, offset, conv.weight, conv.bias, stride=stride, padding=1, mask=mask
            )
    return F.group_norm(x, norm.num_groups, norm.weight, norm.bias)


def plain_dyrelu(module: nn.Module, x: Tensor) -> Tensor:
    first, second = module.fc[0], module.fc[2]
    hidden = F.relu(F.linear(F.adaptive_avg_pool2d(x, 1).flatten(1), first.weight, first.bias))
    coefficients = F.hardsigmoid(F.linear(hidden, second.weight, second.bias))[..., None, None]
    a1, b1, a2, b2 = coefficients.chunk(4, dim=1)
    return torch.max(x * ((a1 - 0.5) * 2 + 1) + (b1 - 0.5), x * ((a2 - 0.5) * 2) + (b2 - 0.5))


def plain_dyconv(module: nn.Module, levels: list[Tensor]) -> list[Tensor]:
    """As in GLIP's own code: stack, weigh, mean, activate."""
    outs = []
    for i, feature in enumerate(levels):
        maps = None
        if module.offset is not None:
            both = F.conv2d(feature, module.offset.weight, module.offset.bias, padding=1)
            maps = both[:, :18], both[:, 18:].sigmoid()
        terms = [plain_conv(module.dyconvs[1], feature, 1, maps)]
        if i > 0:
            terms.append(plain_conv(module.dyconvs[2], levels[i - 1], 2, maps))
        if i < len(levels) - 1:
            coarse = plain_conv(module.dyconvs[0], levels[i + 1], 1, maps)
            terms.append(
                F.interpolate(coarse, feature.shape[2:], mode="bilinear", align_corners=True)
            )
        stacked = torch.stack(terms)
        if module.attnconv is not None:
            scale = module.attnconv[1]
            scales = [
                F.relu(F.conv2d(F.adaptive_avg_pool2d(t, 1), scale.weight, scale.bias))
                for t in terms
            ]
            stacked = stacked * F.hardsigmoid(torch.stack(scales))
        mean = stacked.mean(dim=0)
        outs.append(
            F.relu(mean) if isinstance(module.relu, nn.ReLU) else plain_dyrelu(module.relu, mean)
        )
    return outs


class PlainDyConv(nn.Module):
    """MMDetection's dynamic convolution, with GLIP's resize."""

    def __init__(self, fast: DyConv) -> None:
        super().__init__()
        _adopt(self, fast)
        self.attnconv, self.offset = fast.attnconv, fast.offset

    def forward(self, inputs: dict) -> dict:
        """Shapes as in :meth:`mmsdpt.hosts.glip.dyconv.DyConv.forward`."""
        return {"visual": plain_dyconv(self, inputs["visual"]), "lang": inputs["lang"]}


class PlainVLFusionModule(nn.Module):
    """MMDetection's prediction layers after the plain fusion, on all of the padded text."""

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
