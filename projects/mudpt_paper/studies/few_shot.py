# Few-shot classification: K images of each class of 11 data sets, tested on the full test sets.
_base_ = "../../../configs/_base_/studies/clip.py"

papers_data = [
    "clip_imagenet",
    "clip_caltech_101",
    "clip_oxford_pets",
    "clip_stanford_cars",
    "clip_oxford_flowers",
    "clip_food_101",
    "clip_fgvc_aircraft",
    "clip_sun397",
    "clip_dtd",
    "clip_eurosat",
    "clip_ucf101",
]
# Images are cropped as their data's config says, but the authors of Tip-Adapter and MMRL crop at
# least half of one.
_half = {"train_dataloader.dataset.pipeline.1.crop_ratio_range": (0.5, 1.0)}
methods = dict(tip_adapter_f=dict(settings=_half), mmrl=dict(settings=_half))
study = dict(
    name="few_shot",
    title="Few-shot classification",
    protocol="few_shot",
    data=papers_data,
    shots=[1, 2, 4, 8, 16],
    published="projects.mudpt_paper.published",
)
