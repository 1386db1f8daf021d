"""Every method trains as many parameters as its paper, or its formula, says at full size."""

from __future__ import annotations

import pytest
import torch
from mmengine.registry import init_default_scope

from mmsdpt.registry import MODELS
from tests.hosts.disconnect import disconnect_all
from tests.oracles.trainable import expected_count

LEARNABLE = dict(num_tokens=200, projection="learnable")
TRANSFORMER = dict(injection="transformer")
ONE_WAY = dict(direction="text_to_image", learn_image_prompts=False)
# Of a host, a method with settings: its trainable parameters.
COUNTS = {
    "GLIP-L": [
        ("SDPT", dict(num_tokens=10), 163_840),
        ("SDPT", dict(num_tokens=120), 1_966_080),
        ("SDPT", dict(num_tokens=200), 3_276_800),
        ("SDPT", dict(num_tokens=10, layers=range(6)), 122_880),  # as on GLIP-T
        ("SDPT", dict(num_tokens=200, share=False), 6_553_600),
        # Tokens, and 8 layers x (2048 x width + width).
        ("SDPT", dict(LEARNABLE, sides="image"), 3_276_800 + 4_196_352),
        ("SDPT", dict(LEARNABLE, sides="text"), 3_276_800 + 12_589_056),
        ("SDPT", LEARNABLE, 3_276_800 + 4_196_352 + 12_589_056),
        ("Adapter", dict(), 2_379_264 + 36_864),
        ("Adapter", dict(layer_norms=False), 2_379_264),
        ("Adapter", dict(bottleneck=286), 10_605_264),
        ("AdaptFormer", dict(bottleneck=64), 2_329_728),
        ("AdaptFormer", dict(bottleneck=1568), 56_654_208),
        ("Apollo", dict(), 5_544_896),
        ("Apollo", dict(depth=5, bottleneck=16), 3_188_576),
        ("CoOp", dict(), 12_288),
        # LoRA's, and a length of each row: 54,144 + 27,648 in the encoders, 8 x 9,216 in X-MHA.
        ("DoRA", dict(), 2_039_808 + 81_792),
        ("DoRAXMHA", dict(), 1_966_080 + 73_728),
        ("DPT", dict(), 7_482_624),
        ("GLIPPrompt", dict(), 256 * 768),
        ("MaPLe", dict(), 5_181_504),
        ("MaPLe", dict(depth=5), 3_108_288),
        # 2 x 24 adapters: 133 d each, and 64 x (83 + 64 + 5).
        ("Mona", dict(), 2 * 133 * 18_048 + 48 * 64 * 152),
        ("PMF", dict(), 5_370_624),
        ("PMF", dict(hidden_width=768), 7_140_864),  # as in the released code
        ("PMF", dict(hidden_width=160), 1_535_104),  # published: 1.53 million
        # 22 d in blocks; patches 4 x 192; between stages 8 C + 2 C; norms of 384, 768 and 1,536.
        ("SSF", dict(), 22 * 18_048 + 768 + 10 * 1_344 + 2 * 2_688),
        ("UPT", dict(), 5_767_488),
        ("VPT", dict(num_tokens=1), 18_048),
        ("VPT", dict(num_tokens=10), 180_480),
        ("VPT", dict(num_tokens=236), 4_259_328),
    ],
    # Six fusion layers: width 256 on both sides, joint width 1024.
    "Grounding DINO-T": [
        ("SDPT", dict(num_tokens=10), 61_440),
        ("SDPT", dict(LEARNABLE), 6 * 200 * 1024 + 6 * 2 * 1025 * 256),
        ("BitFitXMHA", dict(), 6 * (4 * 1024 + 2 * 256 + 2 * 256)),
        ("LoRAXMHA", dict(rank=16), 6 * 6 * 16 * (256 + 1024)),
        ("GLIPPrompt", dict(), 256 * 256),
        ("CoOp", dict(), 16 * 768),
        # Two hidden layers and one of four outputs, for six decoder layers and the proposals.
        ("LinearProbing", dict(), 7 * (2 * 257 * 256 + 257 * 4)),
    ],
    "ViT-B/16": [
        ("CLIPAdapter", dict(), 131_072),
        ("CLIPLoRA", dict(), 184_320),
        ("KgCoOp", dict(), 2_048),
        ("MMA", dict(), 674_560),
        ("MMA", dict(depth=4), 337_280),
        ("MMRL", dict(), 4_992_256),
        ("MMRL", dict(token_width=2048), 18_762_496),
        ("PromptSRC", dict(), 46_080),
        ("PromptSRC", dict(depth=3), 15_360),
        ("TCP", dict(), 331_904),
        ("TipAdapter", dict(num_classes=100), 100 * 16 * 512),
        ("TipAdapter", dict(num_classes=1000), 8_192_000),
        ("CLIPCoOp", dict(), 8_192),
        ("CLIPCoOp", dict(num_tokens=4), 2_048),
        ("CLIPCoOp", dict(per_class=True, num_classes=100), 819_200),
        ("CLIPCoOp", dict(num_tokens=0), 0),
        ("CLIPLinearProbe", dict(num_classes=100), 51_300),
        ("CLIPMaPLe", dict(), 3_555_072),
        ("CLIPVPT", dict(), 73_728),
        ("CoCoOp", dict(), 35_360),
        ("CoCoOp", dict(num_tokens=0), 0),
        ("IndependentVL", dict(), 30_720),
        ("IndependentVL", dict(num_tokens=16, depth=12), 245_760),
        ("MuDPT", dict(), 1_204_736),
        ("MuDPT", dict(num_tokens=4), 1_227_776),
        ("MuDPT", TRANSFORMER, 11_056_128),
        ("MuDPT", dict(TRANSFORMER, **ONE_WAY), 3_557_632),
        ("MuDPT", dict(TRANSFORMER, variant="figure"), 11_053_568),
        ("MuDPT", dict(TRANSFORMER, variant="figure", outer_norms=True), 11_058_688),
        ("MuDPT", dict(ONE_WAY, injection="linear", share=False), 3_555_072),
        ("MuDPT", dict(injection="none", depth=12), 30_720),
        (
            "MuDPT",
            dict(injection="none", num_text_tokens=0, num_image_tokens=8, depth=12),
            73_728,
        ),
    ],
    # 24 image blocks of width 1,024, and 12 text blocks of width 768.
    "ViT-L/14": [
        ("CLIPVPT", dict(num_tokens=8), 24 * 8 * 1024),
        ("IndependentVL", dict(), 12 * 2 * (768 + 1024)),
        ("MuDPT", dict(), 9 * 2 * (768 + 1024) + 2 * 769 * 1024 + 1025 * 768),
    ],
}
# MuDPT's and independent V-L's published formulas for n tokens in each of the first J blocks.
for n, depth in ((1, 1), (2, 9), (8, 9), (16, 12)):
    lengths, table = dict(num_tokens=n, depth=depth), COUNTS["ViT-B/16"]
    if depth > 1:  # without deep prompts their maps are not there
        table.append(("MuDPT", lengths, depth * n * 1280 + 1_181_696))
        table.append(("MuDPT", dict(TRANSFORMER, **lengths), depth * n * 1280 + 11_033_088))
    one_way = dict(TRANSFORMER, **ONE_WAY, **lengths)
    table.append(("MuDPT", one_way, depth * n * 512 + 3_548_416))
    table.append(("IndependentVL", lengths, depth * n * 1280))


@pytest.mark.parametrize(
    ("host", "method", "settings", "expected"),
    [(host, *row) for host, rows in COUNTS.items() for row in rows],
    ids=str,
)
def test_as_many_parameters_train_as_the_formula_says(host, method, settings, expected, large):
    model = large(host)
    init_default_scope("mmpretrain" if host.startswith("ViT") else "mmdet")
    with torch.device("meta"):
        tuner = MODELS.build(
            dict(type=f"mmsdpt.{method}", **settings), default_args=dict(seams=model.seams())
        )
    disconnect_all(model.seams())
    assert tuner.num_trainable() == expected_count(tuner) == expected


def test_a_depth_that_the_shallower_tower_does_not_have_is_refused(large):
    with pytest.raises(ValueError, match="depth must be from 1 to 12.* 12 and 24 blocks"):
        MODELS.build(
            dict(type="mmsdpt.MuDPT", depth=13),
            default_args=dict(seams=large("ViT-L/14").seams()),
        )
