"""Both encoders side by side, for tuners that connect their last blocks or their outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from mmsdpt.hosts.grounding.seams import PairedSeam, PairSeam
from mmsdpt.hosts.seams import ForwardState, Rows, RunBlock, Seam

Encoded = tuple[tuple[Tensor, ...], dict[str, Tensor]]
"""The image encoder's feature maps (B, d, h, w), and the language dict."""


class Lockstep:
    """The seams between both encoders, and a forward pass of both through these seams.

    Args:
        image: Seams of the image encoder by kind; empty if it is a toolbox's own class.
        text: The same of the text encoder.
        out_indices: Stages whose maps the image encoder returns.

    Attributes:
        pairs: Seams of the last blocks. Their number is the number of blocks of the last image
            stage or of the text encoder, whichever is smaller. Empty if an encoder has no seams.
        outputs: Seams of the encoders' outputs; at most one.
    """

    def __init__(
        self,
        image: Mapping[str, Sequence[Seam]],
        text: Mapping[str, Sequence[Seam]],
        out_indices: Sequence[int],
    ) -> None:
        self.pairs: list[PairSeam] = []
        self.outputs: list[PairedSeam] = []
        blocks, layers = image.get("image_blocks", ()), text.get("text_blocks", ())
        if not blocks or not layers:
            return
        count = min(blocks[-1].widths["depth"], len(layers))
        for index, (a, b) in enumerate(zip(blocks[-count:], layers[-count:], strict=True)):
            widths = dict(image=a.widths["width"], text=b.widths["width"])
            heads = dict(image_heads=a.widths["heads"], text_heads=b.widths["heads"])
            self.pairs.append(PairSeam(index, {**widths, **heads}, kind="encoder_pairs"))
        if blocks[-1].widths["stage"] in out_indices:
            self.outputs.append(PairedSeam(0, widths, kind="encoder_outputs"))

    def active(self) -> bool:
        """Whether a tuner acts here."""
        return any(seam.active() for seam in (*self.pairs, *self.outputs))

    def encode(
        self, image_encoder: nn.Module, text_encoder: nn.Module, images: Tensor, state: ForwardState
    ) -> Encoded:
        """Both encoders on images (B, 3, H, W) and ``state.captions``; fills ``state.text``."""
        if any(seam.active() for seam in self.pairs):
            maps, features = self._run_pairs(image_encoder, text_encoder, images, state)
        else:
            features = text_encoder.finish(text_encoder.begin(state.captions, state, last=0))
            state.text = features  # image blocks may read it
            maps = image_encoder(images, state)
        if any(seam.active() for seam in self.outputs):
            maps, features = self._change_outputs(maps, features, state)
        state.text = features
        return maps, features

    def _run_pairs(
        self, image_encoder: nn.Module, text_encoder: nn.Module, images: Tensor, state: ForwardState
    ) -> Encoded:
        last = len(self.pairs)
        text = text_encoder.begin(state.captions, state, last)
        image = image_encoder.begin(images, state, last)
        for i, seam in enumerate(self.pairs):
            run_image = _CarryRows(image_encoder.run_block(image, i), image.rows)
            run_text = _CarryRows(text_encoder.run_block(text, i), text.rows)
            if seam.active():
                image.x, text.x = seam.run(run_image, run_text, image.x, text.x, text.mask, state)
            else:
                (image.x, _), (text.x, _) = run_image(image.x, {}), run_text(text.x, {})
            image.rows, text.rows = run_image.carried, run_text.carried
        return image_encoder.finish(image, image.x), text_encoder.finish(text)

    def _change_outputs(
        self, maps: tuple[Tensor, ...], features: dict[str, Tensor], state: ForwardState
    ) -> Encoded:
        *others, deepest = maps
        image, hidden = deepest.flatten(2).transpose(1, 2), features["hidden"]
        mask = features.get("text_token_mask", features["masks"])  # with sub-sentences, or without
        for seam in self.outputs:
            image, hidden = seam.change(image, hidden, mask, state)
        # ``embedded`` averages the last layers, including ``hidden``, so it gets the same change.
        embedded = features["embedded"] + (hidden - features["hidden"])
        deepest = image.transpose(1, 2).unflatten(2, deepest.shape[2:])
        return (*others, deepest), {**features, "hidden": hidden, "embedded": embedded}


class _CarryRows:
    """A block for a handler that runs two encoders. It adds the rows of other tuners, which the
    handler does not see.

    The handler may run the block more than once, each time with the same rows. The rows of the last
    run go into the next block.
    """

    def __init__(self, block: RunBlock, rows: Rows) -> None:
        self.block, self.rows, self.carried = block, rows, rows

    def __call__(self, x: Tensor, rows: Rows) -> tuple[Tensor, Rows]:
        x, found = self.block(x, {**self.rows, **rows})
        self.carried = {key: value for key, value in found.items() if key not in rows}
        return x, {key: value for key, value in found.items() if key in rows}
