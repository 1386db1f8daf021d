# A second method on a frozen first one: the poster's rows, on mini GLIP.
_base_ = "parts/tasks.py"

study = dict(
    name="compatibility_mini",
    title="A second method on a frozen first one",
    protocol="stacking",
    source="thermal",
    data=["new_names"],
    pairs=[("adapter", "adapter"), ("adapter", "sdpt"), ("vpt", "vpt"), ("vpt", "sdpt")],
    published="projects.sdpt_poster.published",
)
