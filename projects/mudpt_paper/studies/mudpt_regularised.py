# Does PromptSRC's self-consistency help MuDPT on new classes? The three injections without and with
# it, at MuDPT's 10 epochs, and PromptSRC itself, which averages over the epochs, too.
_base_ = "later_base_to_new.py"

regularised = dict(settings=dict(regularisation=True))
methods = dict(
    mudpt_regularised=dict(
        label="MuDPT, regularised", config="configs/mudpt/mudpt_vit_b16.py", **regularised
    ),
    mudpt_one_way_regularised=dict(
        label="MuDPT, one-way transformer, regularised",
        config="configs/mudpt/mudpt_one_way_vit_b16.py",
        **regularised,
    ),
    mudpt_transformer_regularised=dict(
        label="MuDPT, transformer, regularised",
        config="configs/mudpt/mudpt_transformer_vit_b16.py",
        **regularised,
    ),
)
study = dict(
    name="mudpt_regularised",
    title="MuDPT with PromptSRC's self-consistency, from base to new classes",
    methods=[
        *("mudpt", "mudpt_regularised", "mudpt_one_way", "mudpt_one_way_regularised"),
        *("mudpt_transformer", "mudpt_transformer_regularised", "promptsrc_10"),
    ],
)
