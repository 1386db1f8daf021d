# The same on mini CLIP, which has six blocks, and photographs of clothing.
_base_ = "prompt_study.py"

study = dict(
    name="prompt_study_mini",
    hosts=["mini_clip"],
    data=["clip_clothing_64px"],
    vary=dict(depth=dict(depth=[1, 3, 6])),
)
