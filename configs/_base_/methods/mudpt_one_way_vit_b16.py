# MuDPT on CLIP ViT-B/16, one way: a transformer makes the image prompts from the text prompts.
_base_ = ["../models/clip_vit_b16.py", "../schedules/clip_sgd.py", "../clip_runtime.py"]

model = dict(
    tuner=dict(
        type="mmsdpt.MuDPT",
        num_tokens=2,
        depth=9,
        injection="transformer",
        direction="text_to_image",
        learn_image_prompts=False,
    ),
)
