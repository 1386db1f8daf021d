# A second method on a frozen first one: the poster's rows, from COCO to Aquarium on GLIP-L.
_base_ = "../../../configs/_base_/studies/glip.py"

aquarium = "configs/baselines/{}_glip_l_aquarium.py"
methods = dict(
    adapter=dict(label="Adapter", config=aquarium.format("adapter")),
    vpt=dict(label="VPT", config=aquarium.format("vpt")),
    sdpt=dict(label="SDPT", config="configs/sdpt/glip_l_aquarium_k10.py"),
)
data = dict(
    coco=dict(config="configs/sdpt/glip_l_coco_k10.py"),
    aquarium=dict(config="configs/sdpt/glip_l_aquarium_k10.py"),
)
study = dict(
    name="compatibility",
    title="A second method on a frozen first one",
    protocol="stacking",
    hosts=["glip_l"],
    source="coco",
    data=["aquarium"],
    published="projects.sdpt_poster.published",
    pairs=[("adapter", "adapter"), ("adapter", "sdpt"), ("vpt", "vpt"), ("vpt", "sdpt")],
)
