# SDPT on GLIP-L and LVIS v1. 1,203 class names do not fit into a caption: training samples up to 40
# for each image, testing runs in chunks of 40. benchmark = "lvis/minival" tests on minival.
_base_ = "glip_l_coco_k10.py"

data_root = "data/coco/"
train_pipeline = _base_.train_pipeline
# Sixteen of 256 tokens stay free for the context of CoOp and DPT.
train_pipeline.insert(
    -1,
    dict(
        type="mmsdpt.SampleCaptionClasses",
        max_classes=40,
        max_tokens=240,
        language_model=_base_.lang_model_name,
    ),
)

train_dataloader = dict(
    dataset=dict(
        dataset=dict(
            type="mmsdpt.LVISDataset",
            ann_file="annotations/lvis_v1_train.json",
            data_prefix=dict(img=""),
            pipeline=train_pipeline,
        )
    )
)
val_dataloader = dict(
    dataset=dict(
        type="mmsdpt.LVISDataset",
        ann_file="annotations/lvis_od_val.json",
        data_prefix=dict(img=""),
    )
)
test_dataloader = val_dataloader
# AP of LVIS with 300 detections an image, and fixed AP with 10,000 a class, as GLIP's.
val_evaluator = dict(
    _delete_=True, type="mmsdpt.LVISMetric", ann_file=data_root + "annotations/lvis_od_val.json"
)
test_evaluator = val_evaluator

model = dict(test_cfg=dict(max_per_img=300, chunked_size=40))
# Some names of LVIS differ only in parentheses, which GLIP does not read.
default_hooks = dict(checkpoint=dict(save_best="lvis_fixed_ap/AP"), class_names=dict(strict=False))
