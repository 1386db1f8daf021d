"""Numbers that papers report on CLIP, shown beside those of a study.

A study names this module: ``study = dict(published="projects.mudpt_paper.published", ...)``.
The keys are those of :func:`mmsdpt.experiments.published.published_entries`.
"""

_DATA = [
    *("imagenet", "caltech_101", "oxford_pets", "stanford_cars", "oxford_flowers", "food_101"),
    *("fgvc_aircraft", "sun397", "dtd", "eurosat", "ucf101"),
]

PUBLISHED = [
    dict(
        protocol="few_shot",
        source="Miao et al., MuDPT, 2023",
        sentence="MuDPT's accuracy is 8.2 above CoOp's and 6.31 above CoCoOp's, on average over 11"
        " data sets with ViT-B/16.",
    ),
    dict(
        title="base to new, average over 11 data sets",
        source="Khattak et al., MaPLe, CVPR 2023, table 3, where the others' numbers are quoted,"
        " and for independent V-L its repository",
        protocol="base_to_new",
        setting=dict(host="clip_vit_b16", data=_DATA, shots=16, seeds=3),
        values=dict(
            zero_shot=dict(base=69.34, new=74.22, H=71.70),
            coop=dict(base=82.69, new=63.22, H=71.66),
            cocoop=dict(base=80.47, new=71.69, H=75.83),
            independent_vl=dict(base=82.15, new=74.07, H=77.90),
            maple=dict(base=82.28, new=75.14, H=78.55),
        ),
        labels=dict(coop="CoOp", cocoop="CoCoOp", independent_vl="Independent V-L", maple="MaPLe"),
    ),
    dict(
        title="base to new, average over 11 data sets, later methods",
        source="the authors' repositories, each with its own recipe (TCP and MMRL: a list of"
        " published results that agrees with the repositories of the others)",
        protocol="base_to_new",
        setting=dict(host="clip_vit_b16", data=_DATA, shots=16, seeds=3),
        values=dict(
            # n = 4, D = 9, 20 epochs.
            independent_vl_promptsrc=dict(base=84.21, new=71.79, H=77.51),
            kgcoop=dict(base=80.73, new=73.60, H=77.00),
            promptsrc=dict(base=84.26, new=76.10, H=79.97),
            tcp=dict(base=84.13, new=75.36, H=79.51),
            mma=dict(base=83.20, new=76.80, H=79.87),
            mmrl=dict(base=85.68, new=77.16, H=81.20),
        ),
        labels=dict(
            independent_vl_promptsrc="Independent V-L, PromptSRC's recipe",
            kgcoop="KgCoOp",
            promptsrc="PromptSRC",
            tcp="TCP",
            mma="MMA",
            mmrl="MMRL",
        ),
    ),
]
