"""The rows of the SDPT poster (Zhou et al., ECCV 2024) with its #Par and FLOPs, and our configs.

Where a note speaks of the authors' code, it is the code released with SDPT, a fork of GLIP's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

POSTER_TOTAL = 397.59
"""Million parameters of the poster's GLIP-L; its shares refer to it."""

OWN, POSTER_SIZE = "_glip_l_coco.py", "_glip_l_coco_poster_size.py"


@dataclass(frozen=True)
class PosterRow:
    """A method of the table.

    Attributes:
        method: Its name there.
        stems: Our configs, under ``configs/``, without the ending that they share.
        par: The poster's #Par in millions; None: the poster does not have the method.
        flops: The poster's FLOPs in 10^9.
        note: Where and why the numbers differ.
    """

    method: str
    stems: tuple[str, ...]
    par: float | None
    flops: float | None
    note: str = ""


PLAIN = PosterRow(
    "GLIP-L without a method",
    (),
    None,
    None,
    "724.30 in the poster's rows that add no operations: 718.50 for GLIP-L, and 5.79 of adapters"
    " that the authors' BERT fork always runs, whichever method is on. The poster's total of"
    " 397.59 M parameters matches no count of GLIP-L.",
)
_SAME = "No operation is added: the changed parameters take the place of the host's."

ROWS: tuple[PosterRow, ...] = (
    PosterRow(
        "Linear probing",
        ("baselines/linear_probing",),
        1.96,
        724.30,
        "GLIP's linear probing trains bbox_pred, centerness, dot_product_projection_text,"
        f" log_scale, bias_lang and bias0. No set of prediction layers has 1.96 M. {_SAME}",
    ),
    PosterRow(
        "AdaptFormer",
        ("baselines/adaptformer",),
        56.60,
        780.87,
        "Own size: width 64, the paper's. In the authors' code each block holds three adapters, two"
        " of width 0.5 d and one of 0.8 d, 56.60 M together, but the forward pass only runs the"
        " last: 25.1 M, +56.57 G. Ours uses every parameter.",
    ),
    PosterRow(
        "VPT-deep",
        ("baselines/vpt",),
        4.26,
        1317.41,
        "Own size: 10 prompts per block; the poster's: 236. Prompts act as keys and values: those"
        " are computed once per block, for all of its windows, and the prompts' own outputs are"
        " dropped. The poster's +593 G are of the order of prompts that pass the linear layers in"
        " every window. Its way of counting leaves attention out, where most of our operations"
        " are.",
    ),
    PosterRow(
        "Adapter",
        ("baselines/adapter",),
        10.62,
        724.31,
        "Own size: width 64 in every text layer, with the layers' norms (Houlsby et al.). The"
        " authors' code has two MLPs 2304-1152-2304 after BERT instead, on its first three tokens:"
        " 10,616,832 parameters, 0.01 G. Ours act on all tokens of all layers.",
    ),
    PosterRow(
        "CoOp",
        ("baselines/coop",),
        0.52,
        1306.24,
        "16 context vectors of width 768. 0.52 M would be 677 of them, and BERT has 512 positions,"
        " 256 of which the caption takes. 16 more tokens in BERT do not cost the poster's +582 G.",
    ),
    PosterRow(
        "Full fine-tuning",
        ("baselines/full_fine_tuning",),
        397.59,
        724.30,
        f"All parameters of GLIP-L in MMDetection. {_SAME}",
    ),
    PosterRow(
        "LoRA",
        ("baselines/lora",),
        2.03,
        724.30,
        "Rank 16 on Swin's qkv and on BERT's query, key and value: the poster's size."
        " The changed weights are formed before the pass, or merged.",
    ),
    PosterRow(
        "BitFit",
        ("baselines/bitfit",),
        0.42,
        724.30,
        "Own size: every bias of every part. Without those of the fused BERT layers it is the"
        f" poster's size. {_SAME}",
    ),
    PosterRow(
        "LoRA, X-MHA",
        ("baselines/lora_xmha",),
        1.58,
        724.30,
        "Own size: rank 16 on the six Linears. The poster's is between ranks: 13 gives 1.60 M.",
    ),
    PosterRow(
        "BitFit, X-MHA",
        ("baselines/bitfit_xmha",),
        0.21,
        724.30,
        "X-MHA has 73,728 biases, 81,920 with its layer norms'. In the authors' code this row"
        f" trains every name outside of the encoders that contains 'bias'. {_SAME}",
    ),
    PosterRow(
        "DPT",
        ("baselines/dpt",),
        80.71,
        925.17,
        "The poster's size would take 4,900 prompts per early block.",
    ),
    PosterRow(
        "Apollo",
        ("baselines/apollo",),
        3.18,
        1150.92,
        "The second view of the consistency loss is a cost of training, and not in this table.",
    ),
    PosterRow(
        "PMF",
        ("baselines/pmf",),
        1.53,
        730.59,
        "Own size: MLPs of half the encoders' width, as in the paper; the poster's size: 160. The"
        " query pass runs the last two layers of both encoders a second time.",
    ),
    PosterRow(
        "UPT",
        ("baselines/upt",),
        2.75,
        785.32,
        "A transformer layer of BERT's width and a Linear per stage of Swin have more than the"
        " poster's 2.75 M.",
    ),
    PosterRow(
        "MaPLe",
        ("baselines/maple",),
        2.96,
        801.41,
        "Prompts are extra rows of both encoders; see VPT-deep for what they cost in windows.",
    ),
    PosterRow(
        "GLIP prompt tuning",
        ("baselines/glip_prompt",),
        None,
        None,
        "Not in the poster: an offset per caption token after BERT, 768 parameters each.",
    ),
    PosterRow(
        "SDPT, k = 10",
        ("sdpt/glip_l_coco_k10.py",),
        0.16,
        724.77,
        "A token costs 50.33 M multiply-adds in the Linears of the eight plain X-MHA layers (+0.50"
        " for ten; the poster: +0.47), and more in their attention, which the poster leaves out.",
    ),
    PosterRow(
        "SDPT, k = 120",
        ("sdpt/glip_l_coco_k120.py",),
        1.97,
        738.36,
        "+6.04 in Linears. The poster's +14.06 is not proportional to its +0.47 for ten tokens.",
    ),
    PosterRow(
        "DoRA",
        ("baselines/dora",),
        None,
        None,
        "Not in the poster: LoRA's matrices, and a magnitude for each row of the weights."
        " Formed before the pass, or merged.",
    ),
    PosterRow("DoRA, X-MHA", ("baselines/dora_xmha",), None, None, "Not in the poster; as DoRA."),
    PosterRow(
        "Mona",
        ("baselines/mona",),
        None,
        None,
        "Not in the poster. The paper's three depth-wise convolutions run as one of 7 x 7, which is"
        " what is counted.",
    ),
    PosterRow(
        "SSF",
        ("baselines/ssf",),
        None,
        None,
        "Not in the poster: scales and shifts in the image encoder, formed into its parameters"
        " before the pass, or merged.",
    ),
)


@dataclass(frozen=True)
class ConfigRow:
    """One config of a row.

    Attributes:
        row: What the poster says.
        label: For the table.
        config: Its path.
    """

    row: PosterRow
    label: str
    config: Path


def config_rows(folder: Path, rows: Sequence[PosterRow] = ROWS) -> Iterator[ConfigRow]:
    """The configs that exist, in the order of the poster: at the method's own size, then at the
    poster's.

    Args:
        folder: Of the configs.
        rows: Of the poster.
    """
    for row in rows:
        for stem in row.stems:
            endings = (
                {"": ""} if stem.endswith(".py") else {OWN: "", POSTER_SIZE: ", poster's size"}
            )
            for ending, suffix in endings.items():
                path = folder / (stem + ending)
                if path.is_file():
                    yield ConfigRow(row, row.method + suffix, path)


def missing_configs(folder: Path, rows: Sequence[PosterRow] = ROWS) -> list[str]:
    """Rows without any config, as the path that is expected."""
    found = {entry.row.method for entry in config_rows(folder, rows)}
    return [
        stem if stem.endswith(".py") else stem + OWN
        for row in rows
        if row.method not in found
        for stem in row.stems
    ]
