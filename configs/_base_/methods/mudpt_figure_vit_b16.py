# MuDPT on CLIP ViT-B/16 as the paper's figure draws it: 9 deep prompts after shallow ones that
# are not fused, transformers with their norms after the residuals and none around the blocks.
_base_ = ["../models/clip_vit_b16.py", "../schedules/clip_sgd.py", "../clip_runtime.py"]

model = dict(
    tuner=dict(
        type="mmsdpt.MuDPT",
        num_tokens=2,
        depth=9,
        injection="transformer",
        variant="figure",
    ),
)
