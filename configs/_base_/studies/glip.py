# What studies of GLIP share.
hosts = dict(
    mini_glip=dict(config="configs/_base_/models/mini_glip.py", load_from="mmsdpt://mini_glip"),
)
study = dict(
    runtime="configs/_base_/default_runtime.py",
    hosts=["mini_glip"],
    seeds=[0],
)
