r"""PMF: efficient multimodal fusion via interactive prompting (Li et al., CVPR 2023).

Each of the last layers f_a of both encoders runs twice, for a modality a with features x_a and the
other modality b. A query pass makes a message, which a small MLP (d_a -> d_a / 2 -> d_b, ReLU) maps
to the other modality. A fusion pass reads the message of the other modality:

    [_, _, q_a] = f_a([x_a, QCP_a, QP_a])           m_{a->b} = MLP_{a->b}(q_a)
    [x_a', _, _] = f_a([x_a, FCP_a, m_{b->a}])

QP are query prompts, QCP query-context prompts and FCP fusion-context prompts. Each layer and
modality has its own, drawn from N(0, 0.02^2). All prompts are dropped after their layer.

Choices for GLIP:

- Swin's last block is paired with BERT's last layer, the blocks before them with each other, and so
  on within Swin's last stage. With the default, this is all of stage 4 on GLIP-L and GLIP-T.
- Swin has no sequence for the query prompts: all prompts are extra keys and values in every window,
  and a query prompt's output is the mean over the windows.
- The published code gives both MLPs one hidden width, max(d_image, d_text) / 2; here it is half the
  width of the MLP's own input. ``hidden_width=768`` is the code's on GLIP-L: 7,140,864 parameters.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mmsdpt.hosts.grounding.seams import PairSeam
from mmsdpt.hosts.seams import ForwardState, PromptRows, RunBlock
from mmsdpt.registry import MODELS

from .base import Seams, Tuner
from .layers.common import drawn, positive_integer


@MODELS.register_module()
class PMF(Tuner):
    """Messages between the last layers of both encoders.

    Per layer (n_q + n_qc + n_fc)(d_a + d_b) parameters for the prompts and (d_a + 1) h + (h + 1)
    d_b per MLP: 5,370,624 on GLIP-L; 1,535,104 with h = 160 (the SDPT poster prints 1.53 M).

    Args:
        num_layers: Layers from the end in which the modalities exchange messages.
        num_query: Query prompts n_q, also the number of messages.
        num_query_context: Query-context prompts n_qc.
        num_fusion_context: Fusion-context prompts n_fc.
        hidden_width: h, of both MLPs. None: half the width of an MLP's input.

    Raises:
        ValueError: if the host has fewer pairs of layers, a number is not positive, another tuner
            acts at the same pairs, or the image prompts of another tuner need the encoded text.
    """

    needs = ("encoder_pairs",)
    settings = (
        "num_layers",
        "hidden_width",
        "num_query",
        "num_query_context",
        "num_fusion_context",
    )
    image_depends_on_text = True

    def __init__(
        self,
        *,
        seams: Seams,
        num_layers: int = 2,
        num_query: int = 4,
        num_query_context: int = 4,
        num_fusion_context: int = 4,
        hidden_width: int | None = None,
        **common: Any,
    ) -> None:
        super().__init__(seams=seams, **common)
        pairs = seams["encoder_pairs"]
        if positive_integer("num_layers", num_layers) > len(pairs):
            raise ValueError(
                f"num_layers must be from 1 to {len(pairs)}, the blocks of the image encoder's last"
                f" stage that have a text layer beside them, got {num_layers}"
            )
        if hidden_width is not None:
            positive_integer("hidden_width", hidden_width)
        for seam in seams.get("image_blocks", ()):
            for other in seam.tuners():
                if other.image_blocks_read_text:
                    raise ValueError(
                        f"{type(other).__name__} needs the finished text in the image encoder, and"
                        " PMF runs the last layers of both encoders side by side, so they cannot be"
                        " stacked: remove one of them"
                    )
        self.num_query, self.num_query_context = num_query, num_query_context
        self.num_fusion_context = num_fusion_context
        self.counts = dict(
            query=num_query, query_context=num_query_context, fusion_context=num_fusion_context
        )
        for name, count in self.counts.items():
            positive_integer(f"num_{name}", count)
        self.num_layers, self.hidden_width = num_layers, hidden_width
        self.layers = nn.ModuleDict()
        for seam in pairs[-num_layers:]:
            image, text = seam.widths["image"], seam.widths["text"]
            self.layers[str(seam.index)] = nn.ModuleDict(
                dict(
                    image=self._make_side(image, text),
                    text=self._make_side(text, image),
                )
            )
            seam.connect(self, self._exchange, exclusive=True)

    def _make_side(self, width: int, other: int) -> nn.ModuleDict:
        """A modality's prompts, and its MLP to the other modality."""
        hidden = width // 2 if self.hidden_width is None else self.hidden_width
        prompts = nn.ParameterDict(
            {name: drawn(count, width) for name, count in self.counts.items()}
        )
        mlp = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, other))
        return nn.ModuleDict(dict(prompts=prompts, to_other=mlp))

    def _exchange(
        self,
        seam: PairSeam,
        run_image: RunBlock,
        run_text: RunBlock,
        image: Tensor,
        text: Tensor,
        mask: Tensor,
        state: ForwardState,
    ) -> tuple[Tensor, Tensor]:
        """(B, N, d_image) and (B, L, d_text) through one layer."""
        layer = self.layers[str(seam.index)]
        for_text = self._query(layer["image"], run_image, image)
        for_image = self._query(layer["text"], run_text, text)
        return (
            self._fuse(layer["image"], run_image, image, for_image),
            self._fuse(layer["text"], run_text, text, for_text),
        )

    def _query(self, side: nn.ModuleDict, run: RunBlock, x: Tensor) -> Tensor:
        """The message (B, n_q, d_other) of one modality to the other."""
        prompts = side["prompts"]
        query = torch.cat([prompts["query_context"], prompts["query"]])  # (n_qc + n_q, d)
        _, rows = run(x, {self: PromptRows(query.to(x.dtype), keep=True)})
        return side["to_other"](rows[self].values[:, -self.counts["query"] :])

    def _fuse(self, side: nn.ModuleDict, run: RunBlock, x: Tensor, message: Tensor) -> Tensor:
        """The modality's features (B, n, d) after the layer, with the other modality's message."""
        context = side["prompts"]["fusion_context"].expand(len(x), -1, -1)  # (B, n_fc, d)
        rows = torch.cat([context.to(x.dtype), message.to(x.dtype)], dim=1)  # (B, n_fc + n_q, d)
        return run(x, {self: PromptRows(rows)})[0]
