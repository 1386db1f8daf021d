"""Average precisions of the SDPT poster (Zhou et al., ECCV 2024), shown beside those of a study.

A study names this module: ``study = dict(published="projects.sdpt_poster.published", ...)``.
The keys are those of :func:`mmsdpt.experiments.published.published_entries`. The poster says
nothing of seeds; its parameters are in :mod:`projects.sdpt_poster.poster`.
"""

_LABELS = dict(
    linear_probing="Linear probing",
    adaptformer="AdaptFormer",
    vpt="VPT",
    adapter="Adapter",
    coop="CoOp",
    full_fine_tuning="Full fine-tuning",
    lora="LoRA",
    bitfit="BitFit",
    lora_xmha="LoRA, X-MHA",
    bitfit_xmha="BitFit, X-MHA",
    dpt="DPT",
    apollo="APoLLo",
    pmf="PMF",
    upt="UPT",
    maple="MaPLe",
    sdpt="SDPT, k = 10",
)
_SOURCE = "Zhou et al., SDPT, ECCV 2024, poster"

PUBLISHED = [
    dict(
        title="GLIP-L on COCO",
        source=f"{_SOURCE}, table of methods; SDPT with k = 10",
        protocol="comparison",
        setting=dict(host="glip_l", data=["coco"]),
        values=dict(
            linear_probing=dict(AP=52.7, AP50=69.9),
            adaptformer=dict(AP=55.8, AP50=73.4),
            vpt=dict(AP=57.4, AP50=75.0),
            adapter=dict(AP=57.5, AP50=75.3),
            coop=dict(AP=55.4, AP50=73.2),
            full_fine_tuning=dict(AP=60.8),
            lora=dict(AP=56.5, AP50=74.1),
            bitfit=dict(AP=54.5, AP50=73.0),
            lora_xmha=dict(AP=55.4, AP50=72.8),
            bitfit_xmha=dict(AP=52.6, AP50=69.5),
            dpt=dict(AP=51.1, AP50=67.9),
            apollo=dict(AP=54.3, AP50=73.1),
            pmf=dict(AP=56.2, AP50=74.2),
            upt=dict(AP=56.8, AP50=74.5),
            maple=dict(AP=57.2, AP50=75.1),
            sdpt=dict(AP=57.6, AP50=75.4),
        ),
        labels=_LABELS,
    ),
    dict(
        title="GLIP-L on LVIS",
        source=f"{_SOURCE}, table of methods; SDPT with k = 10",
        protocol="comparison",
        setting=dict(host="glip_l", data=["lvis"]),
        values={
            name: dict(AP=value)
            for name, value in dict(
                linear_probing=33.8,
                adaptformer=39.4,
                vpt=40.7,
                adapter=40.4,
                coop=39.5,
                full_fine_tuning=41.2,
                lora=40.8,
                bitfit=39.1,
                lora_xmha=38.6,
                bitfit_xmha=36.1,
                dpt=35.3,
                apollo=37.4,
                pmf=39.6,
                upt=40.2,
                maple=40.8,
                sdpt=41.2,
            ).items()
        },
        labels=_LABELS,
    ),
    dict(
        title="a second method on GLIP-L, from COCO to Aquarium",
        source=f"{_SOURCE}, table of compatibility",
        protocol="stacking",
        setting=dict(host="glip_l", data=["coco", "aquarium"]),
        values={
            (one, two): {
                "coco: old": coco_old,
                "coco: both": coco,
                "aquarium: old": aquarium_old,
                "aquarium: both": aquarium,
            }
            for one, coco_old, aquarium_old, two, coco, aquarium in (
                ("adapter", 56.8, 30.7, "adapter", 35.4, 55.6),
                ("adapter", 56.8, 30.7, "sdpt", 53.2, 58.7),
                ("vpt", 55.4, 27.6, "vpt", 30.8, 53.1),
                ("vpt", 55.4, 27.6, "sdpt", 51.9, 58.3),
            )
        },
        labels=_LABELS,
    ),
]
