"""The image encoder of the detectors, a Swin Transformer (Liu et al. 2021), with seams at its
blocks.

Parameters, buffers and their initial values are those of ``mmdet.models.SwinTransformer``. The
results are the same, computed in another order:

- One gather moves tokens from the map into windows (padding, cyclic shift and partition at once),
  and another one moves them back. The indices are cached for a few sizes.
- Queries, keys and values of padding are the bias of the projection (padding is zero), and the
  outputs of padding are dropped, so the linear layers run only on the tokens.
- The mask of the shift is non-zero only in the last row and the last column of windows. Windows are
  sorted by their kind of mask, and each of the four kinds broadcasts its own mask.

Letters: B images; (H, W) size of a map, L = H W its tokens; d the width; N tokens of a window, nW
windows of an image, n = nW B; h heads of width d/h; P rows of prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from mmdet.models.backbones import SwinTransformer as MMDetSwinTransformer
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mmsdpt.hosts.grounding.seams import MapSeam
from mmsdpt.hosts.recompute import recompute
from mmsdpt.hosts.rows import gather, split
from mmsdpt.hosts.seams import BlockSeam, BranchSeam, ForwardState, Rows, RunBlock, Seam
from mmsdpt.registry import MODELS
from mmsdpt.utils.memo import Memo

from .swin_windows import WindowLayout, window_layout

# On the CPU the fused kernel is faster for large windows (144 tokens: forward 2.4 times as fast);
# for 49 or 25 tokens the plain form is as fast. The choice must not depend on what trains, or a
# model with tuners switched off would differ from the plain one in its last bits.
_PLAIN_WINDOW = 64

Change = Callable[[Tensor], Tensor]


def _attention(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float, drop: nn.Dropout
) -> Tensor:
    """softmax(scale QKᵀ + bias) V, each (n, h, N, d/h)."""
    if bias is None or query.device.type != "cpu" or query.shape[-2] > _PLAIN_WINDOW:
        return F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=None if bias is None else bias.to(query.dtype),
            dropout_p=drop.p if drop.training else 0.0,
            scale=scale,
        )
    return drop(((query * scale) @ key.transpose(-2, -1) + bias).softmax(-1)) @ value


# ------------------------------------------------------------------------------ block


class SwinBlock(nn.Module):
    """A Swin block that takes over the submodules of MMDetection's.

    Args:
        built: An ``mmdet.models.backbones.swin.SwinBlock``.
    """

    def __init__(self, built: nn.Module) -> None:
        super().__init__()
        self.with_cp = built.with_cp
        self.norm1, self.attn, self.norm2, self.ffn = (
            built.norm1,
            built.attn,
            built.norm2,
            built.ffn,
        )

    def forward(
        self,
        x: Tensor,
        layout: WindowLayout,
        rows: Rows,
        branches: Sequence[Change] = (),
        after_attention: Sequence[Change] = (),
        after_ffn: Sequence[Change] = (),
    ) -> tuple[Tensor, Rows]:
        """x = x + MSA(LN(x)), then x + FFN(LN(x)) + branches(x).

        Kept rows go through the whole block like tokens of their sample, including the branches.

        Args:
            x: (B, L, d).
            layout: Windows of the map.
            rows: Prompts by owner.
            branches: See :class:`mmsdpt.hosts.seams.BranchSeam`.
            after_attention: Change the map after the first sum; see
                :class:`mmsdpt.hosts.grounding.seams.MapSeam`.
            after_ffn: The same after the second.

        Returns:
            (B, L, d) and the rows to keep, each (B, p, d).

        Raises:
            ValueError: if rows do not have the block's width or the batch's size.
        """
        tokens = x.shape[1]
        kept = {owner: row for owner, row in rows.items() if row.keep}
        ordered = [*kept.values(), *(row for row in rows.values() if not row.keep)]
        joined = gather(ordered, x) if ordered else None
        num_kept = sum(row.values.shape[-2] for row in kept.values())
        attended, rows_attended = self._attend(
            self.norm1(x), None if joined is None else self.norm1(joined), num_kept, layout
        )
        if joined is not None and rows_attended is not None:
            x = torch.cat([x, joined[:, :num_kept].expand(len(x), -1, -1)], dim=1)
            attended = torch.cat([attended, rows_attended], dim=1)
        x = x + self.attn.drop(self.attn.w_msa.proj_drop(self.attn.w_msa.proj(attended)))
        x = _changed(x, tokens, after_attention)
        out = self.ffn(self.norm2(x), identity=x)
        for branch in branches:
            out = out + branch(x)
        return split(_changed(out, tokens, after_ffn), kept)

    def _attend(
        self, x: Tensor, rows: Tensor | None, num_kept: int, layout: WindowLayout
    ) -> tuple[Tensor, Tensor | None]:
        """Attention in windows, before the output projection.

        Args:
            x: Normed tokens (B, L, d).
            rows: Normed rows (1 or B, P, d): keys and values in every window.
            num_kept: The first ``num_kept`` rows are also queries.
            layout: Windows of the map.

        Returns:
            (B, L, d), and (B, num_kept, d), the mean over an image's windows, or None if there are
            no rows to keep.
        """
        msa = self.attn.w_msa
        heads, tokens = msa.num_heads, self.attn.window_size**2
        qkv = msa.qkv(x).flatten(0, 1)
        fill = msa.qkv.bias if layout.padding is not None else None
        qkv = layout.to_windows(qkv, None if fill is None else fill.to(qkv.dtype))
        query, key, value = (
            qkv.view(-1, tokens, 3, heads, x.shape[-1] // heads).permute(2, 0, 3, 1, 4).unbind(0)
        )  # (n, h, N, d/h)
        bias = self._position_bias()
        num_rows, row_query = 0, None
        if rows is not None:
            num_rows = rows.shape[1]
            row_qkv = msa.qkv(rows).unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
            # Windows are ordered by place, then by image: (nW, B) flattened.
            windows = query.shape[0] // rows.shape[0]
            row_query, row_key, row_value = (
                part.expand(windows, -1, -1, -1, -1).flatten(0, 1) for part in row_qkv.unbind(0)
            )
            key, value = torch.cat([key, row_key], dim=2), torch.cat([value, row_value], dim=2)

        def attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
            out = _attention(query, key, value, bias, msa.scale, msa.attn_drop)
            return out.transpose(1, 2).flatten(2)  # (n, N, d)

        parts = []
        for start, stop, mask in layout.groups:
            group_bias = bias if mask is None else bias + mask.to(bias.dtype)
            if num_rows:
                group_bias = F.pad(group_bias, (0, num_rows))
            parts.append(
                attention(query[start:stop], key[start:stop], value[start:stop], group_bias)
            )
        out = torch.cat(parts) if len(parts) > 1 else parts[0]
        out = layout.from_windows(out.flatten(0, 1)).view_as(x)
        if row_query is None or not num_kept:
            return out, None
        row_out = attention(row_query[:, :, :num_kept], key, value, None)
        return out, row_out.unflatten(0, (-1, len(x))).mean(0)

    def _position_bias(self) -> Tensor:
        """Relative position bias (1, h, N, N)."""
        msa = self.attn.w_msa
        bias = msa.relative_position_bias_table[msa.relative_position_index.flatten()]
        return bias.view(*msa.relative_position_index.shape, -1).permute(2, 0, 1).contiguous()[None]


def _changed(x: Tensor, tokens: int, changes: Sequence[Change]) -> Tensor:
    """``x`` with changes of its first ``tokens`` rows, which are those of the map."""
    if not changes:
        return x
    own, rows = x[:, :tokens], x[:, tokens:]
    for change in changes:
        own = change(own)
    return torch.cat([own, rows], dim=1) if rows.shape[1] else own


# ------------------------------------------------------------------------------ encoder


@dataclass(eq=False)
class Progress:
    """A batch before the last blocks of the image encoder.

    Attributes:
        x: (B, L, d) tokens of the last stage.
        rows: Rows that the previous block kept.
        hw: (H, W) of the last stage.
        maps: Outputs of the earlier stages that are in ``out_indices``.
        state: State of the forward pass.
        last: Number of blocks left.
    """

    x: Tensor
    rows: Rows
    hw: tuple[int, int]
    maps: tuple[Tensor, ...]
    state: ForwardState
    last: int


_MAPS = ("image_attention_maps", "image_ffn_maps")


class _LinspaceOnCPU(TorchFunctionMode):
    """Lets MMDetection read its drop-path rates from a tensor under ``torch.device("meta")``."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is torch.linspace:
            kwargs.setdefault("device", "cpu")
        return func(*args, **kwargs)


@MODELS.register_module()
class SwinTransformer(MMDetSwinTransformer):
    """MMDetection's Swin Transformer as a part of a host: same parameters, with seams.

    With ``with_cp`` activations are recomputed in the non-reentrant form, so that gradients also
    reach tuners after frozen parts.
    """

    def __init__(self, *args, **kwargs) -> None:
        with _LinspaceOnCPU():
            super().__init__(*args, **kwargs)
        self._layouts: Memo[WindowLayout] = Memo(32)
        # Of all blocks, from the input on; ``_first`` is the index of each stage's first block.
        self._block_seams: list[BlockSeam] = []
        self._ffn_seams: list[BranchSeam] = []
        self._map_seams: dict[str, list[MapSeam]] = {kind: [] for kind in _MAPS}
        self._first: list[int] = []
        for s, stage in enumerate(self.stages):
            self._first.append(len(self._block_seams))
            for position, built in enumerate(stage.blocks):
                stage.blocks[position] = SwinBlock(built)
                width = built.attn.w_msa.embed_dims
                widths = dict(
                    width=width,
                    heads=built.attn.w_msa.num_heads,
                    stage=s,
                    depth=len(stage.blocks),
                    position=position,
                )
                index, place = len(self._block_seams), dict(width=width, stage=s)
                self._block_seams.append(BlockSeam(index, widths, kind="image_blocks"))
                self._ffn_seams.append(BranchSeam(index, place, kind="image_ffns"))
                for kind, seams in self._map_seams.items():
                    seams.append(MapSeam(index, place, kind=kind))

    def seams(self) -> dict[str, list[Seam]]:
        """``image_blocks``, ``image_ffns``, ``image_attention_maps`` and ``image_ffn_maps``, one of
        each per block, from the input on.
        """
        kinds: dict[str, Sequence[Seam]] = dict(
            image_blocks=self._block_seams, image_ffns=self._ffn_seams, **self._map_seams
        )
        return {kind: [*seams] for kind, seams in kinds.items()}

    def train(self, mode: bool = True):
        """Set the mode; ``frozen_stages`` stay in eval mode. Returns self, as torch does."""
        super().train(mode)
        return self

    # ------------------------------------------------------------------ forward

    def forward(self, images: Tensor, state: ForwardState | None = None) -> tuple[Tensor, ...]:
        """Feature maps of the stages in ``out_indices``, normed.

        Args:
            images: (B, 3, H, W).

        Returns:
            (B, d, h, w) per stage.
        """
        progress = self.begin(images, state)
        return self.finish(progress, progress.x)

    def begin(self, images: Tensor, state: ForwardState | None = None, last: int = 0) -> Progress:
        """Run all but the last ``last`` blocks of the last stage.

        Args:
            images: (B, 3, H, W).
            last: Number of blocks to leave for :meth:`run_block`, at most all of the last stage.
        """
        state = ForwardState(images=images) if state is None else state
        x, hw = self.patch_embed(images)
        if self.use_abs_pos_embed:
            x = x + self.absolute_pos_embed
        x = self.drop_after_pos(x)
        rows: Rows = {}
        maps = []
        for s, stage in enumerate(self.stages):
            final = stage is self.stages[-1]
            rows = {}  # rows end with their stage: the next stage has another width
            for position in range(len(stage.blocks) - (last if final else 0)):
                x, rows = self._run_block(s, position, hw, state, x, rows)
            if not final:
                if s in self.out_indices:
                    maps.append(self._map(s, x, hw))
                x, hw = stage.downsample(x, hw)
        return Progress(x=x, rows=rows, hw=hw, maps=tuple(maps), state=state, last=last)

    def run_block(self, progress: Progress, i: int) -> RunBlock:
        """The i-th of the blocks that :meth:`begin` left, with its active handlers."""
        stage = len(self.stages) - 1
        position = len(self.stages[stage].blocks) - progress.last + i
        return partial(self._run_block, stage, position, progress.hw, progress.state)

    def finish(self, progress: Progress, x: Tensor) -> tuple[Tensor, ...]:
        """The feature maps, given the last block's output x (B, L, d)."""
        stage = len(self.stages) - 1
        if stage not in self.out_indices:
            return progress.maps
        return (*progress.maps, self._map(stage, x, progress.hw))

    def _run_block(
        self,
        stage: int,
        position: int,
        hw: tuple[int, int],
        state: ForwardState,
        x: Tensor,
        rows: Rows,
    ) -> tuple[Tensor, Rows]:
        run = partial(self._compute, stage, position, hw)
        return self._block_seams[self._first[stage] + position].run(run, x, rows, state)

    def _compute(
        self, stage: int, position: int, hw: tuple[int, int], x: Tensor, rows: Rows
    ) -> tuple[Tensor, Rows]:
        block = self.stages[stage].blocks[position]
        index = self._first[stage] + position
        branches = self._ffn_seams[index].settled()
        changes = [self._map_seams[kind][index].settled(hw=hw) for kind in _MAPS]
        key = (len(x), hw, block.attn.window_size, block.attn.shift_size, x.device)
        layout = self._layouts.get(key, partial(window_layout, *key))
        if block.with_cp and torch.is_grad_enabled():
            return recompute(block, x, layout, rows, branches, *changes)
        return block(x, layout, rows, branches, *changes)

    def _map(self, stage: int, x: Tensor, hw: tuple[int, int]) -> Tensor:
        x = getattr(self, f"norm{stage}")(x)
        return x.unflatten(1, hw).permute(0, 3, 1, 2).contiguous()
