# Tokens that act for the words that they were trained on, under captions of new words, of old ones,
# and of both.
_base_ = "retention_mini.py"

own = dict(own_words_only=True)
methods = dict(
    sdpt_own=dict(config=_base_.sdpt, label="SDPT, own words", settings=own),
    sdpt_own_longer=dict(
        config=_base_.sdpt,
        label="SDPT, own words, 36 epochs",
        settings=dict(own, **{"train_cfg.max_epochs": 36}),
    ),
    sdpt_k120_own=dict(
        config=_base_.sdpt, label="SDPT, k = 120, own words", settings=dict(own, num_tokens=120)
    ),
)
data = {
    name: dict(config=f"projects/sdpt_poster/studies/parts/{name}.py")
    for name in ("seen_among_new_names", "new_names_among_seen")
}
study = dict(
    name="own_words_mini",
    title="Tokens that act for their own words",
    methods=[
        "sdpt",
        "sdpt_own",
        "sdpt_own_longer",
        "sdpt_kept",
        "sdpt_k120",
        "sdpt_k120_own",
        "lora_xmha",
    ],
    data=["new_names"],
    forgetting=["seen", "held_out", *data],
    seeds=[3, 30, 300],
)
