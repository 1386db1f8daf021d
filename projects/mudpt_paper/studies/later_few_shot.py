# MuDPT beside the methods that came after it, with few images of all classes: each at its own
# recipe, and again at MuDPT's 10 epochs where it has another number.
_base_ = "later_base_to_new.py"

methods = dict(
    mmrl=dict(config="configs/clip_baselines/mmrl_vit_b16.py"),
    promptsrc=dict(config="projects/mudpt_paper/studies/recipes/promptsrc_few_shot.py"),
)
study = dict(
    name="later_few_shot",
    title="MuDPT and later methods, few-shot",
    protocol="few_shot",
    methods=[*_base_.study.methods, "mmrl_10"],
    shots=[1, 2, 4, 8, 16],
)
