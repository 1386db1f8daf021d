# MuDPT beside the methods that came after it, from base to new classes: each at its own recipe, and
# again at MuDPT's 10 epochs where it has another number, in batches and at rates of its own.
_base_ = "base_to_new.py"

_baselines = "configs/clip_baselines/"
_recipes = "projects/mudpt_paper/studies/recipes/"
ten = dict(epochs=[(1, 10)])
methods = dict(
    mmrl=dict(config=_recipes + "mmrl_base_to_new.py"),
    independent_vl_10=dict(
        label="Independent V-L, 10 epochs", config=_baselines + "independent_vl_vit_b16.py", **ten
    ),
    maple_10=dict(label="MaPLe, 10 epochs", config=_baselines + "maple_vit_b16.py", **ten),
    promptsrc_10=dict(
        label="PromptSRC, 10 epochs", config=_baselines + "promptsrc_vit_b16.py", **ten
    ),
    mma_10=dict(label="MMA, 10 epochs", config=_baselines + "mma_vit_b16.py", **ten),
    tcp_10=dict(label="TCP, 10 epochs", config=_baselines + "tcp_vit_b16.py", **ten),
    mmrl_10=dict(_base_.methods.mmrl, label="MMRL, 10 epochs", **ten),
)
study = dict(
    name="later_base_to_new",
    title="MuDPT and later methods, from base to new classes",
    published="projects.mudpt_paper.published_later",
    methods=[
        *("independent_vl", "maple", "mudpt", "mudpt_one_way", "mudpt_transformer"),
        *("promptsrc", "mma", "tcp", "mmrl"),  # MMRL's own number is 10 here
        *("independent_vl_10", "maple_10", "promptsrc_10", "mma_10", "tcp_10"),
    ],
)
