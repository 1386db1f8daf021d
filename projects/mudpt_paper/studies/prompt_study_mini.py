# The same on mini CLIP, which has six blocks, and four photographs of each kind of clothing.
_base_ = "prompt_study.py"

study = dict(
    name="prompt_study_mini",
    hosts=["mini_clip"],
    data=["clip_clothing_64px"],
    shots=[4],
    vary=dict(
        length=dict(num_tokens=[1, 2, 4, 8]),
        depth=dict(depth=[1, 3, 6]),
        layers=dict(injection_layers=[1, 2, 3]),
    ),
)
