# The questions that MuDPT's paper leaves open, one setting at a time: how many prompts, in how many
# blocks, how many blocks the injection transformer has, and which way prompts flow.
_base_ = "few_shot.py"

both = ["linear", "transformer"]
study = dict(
    name="prompt_study",
    title="Prompt length, depth, injection layers and direction",
    methods=["mudpt"],
    shots=[16],
    vary=dict(
        length=dict(injection=both, num_tokens=[1, 2, 4, 8, 16]),
        depth=dict(injection=both, depth=[1, 3, 6, 9, 12]),
        layers=dict(injection=["transformer"], injection_layers=[1, 2, 3, 4]),
        direction=[
            dict(injection="none"),
            *[
                dict(injection=x, direction=y)
                for x in both
                for y in ("text_to_image", "image_to_text", "both")
            ],
        ],
    ),
)
