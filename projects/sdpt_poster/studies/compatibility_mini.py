# A second method on a frozen first one: the poster's rows, on mini GLIP, and the second one held to
# what was known before, by the names of the first task and some of pre-training.
_base_ = "parts/tasks.py"

first_names = "hot arrow, cold arrow, hot cross, cold cross, hot heart, cold heart".split(", ")
held = {"model.retention": dict(phrases=[*first_names, *_base_.known_phrases[::16]])}
methods = dict(
    sdpt_own=dict(config=_base_.sdpt, label="SDPT, own words", settings=dict(own_words_only=True)),
    sdpt_kept=dict(config=_base_.sdpt, label="SDPT, retention", settings=held),
    adapter_kept=dict(
        config="configs/baselines/adapter_mini_thermal.py",
        label="Adapter, retention",
        settings=held,
    ),
)
study = dict(
    name="compatibility_mini",
    title="A second method on a frozen first one",
    protocol="stacking",
    source="thermal",
    data=["new_names"],
    pairs=[
        ("adapter", "adapter"),
        ("adapter", "adapter_kept"),
        ("adapter", "sdpt"),
        ("adapter", "sdpt_own"),
        ("adapter", "sdpt_kept"),
        ("vpt", "vpt"),
        ("vpt", "sdpt"),
        ("vpt", "sdpt_kept"),
        ("sdpt", "sdpt"),
        ("sdpt", "sdpt_own"),
        ("sdpt_own", "sdpt_own"),
        ("sdpt", "sdpt_kept"),
    ],
    shots=[10],
    seeds=[3],
    published="projects.sdpt_poster.published",
)
