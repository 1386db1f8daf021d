# SDPT on GLIP-L and LVIS v1. 1,203 class names do not fit into a caption: training samples 40 per
# image, testing runs in chunks of 40. The evaluation is LVIS fixed AP, as GLIP's.
_base_ = "glip_l_coco_k10.py"

data_root = "data/coco/"
train_pipeline = _base_.train_pipeline
train_pipeline.insert(-1, dict(type="mmsdpt.SampleCaptionClasses", max_classes=40))

train_dataloader = dict(
    dataset=dict(
        dataset=dict(
            type="LVISV1Dataset",
            ann_file="annotations/lvis_v1_train.json",
            data_prefix=dict(img=""),
            pipeline=train_pipeline,
        )
    )
)
val_dataloader = dict(
    dataset=dict(
        type="LVISV1Dataset", ann_file="annotations/lvis_od_val.json", data_prefix=dict(img="")
    )
)
test_dataloader = val_dataloader
val_evaluator = dict(
    _delete_=True, type="LVISFixedAPMetric", ann_file=data_root + "annotations/lvis_od_val.json"
)
test_evaluator = val_evaluator

model = dict(test_cfg=dict(max_per_img=300, chunked_size=40))
# Some names of LVIS differ only in parentheses, which GLIP does not read.
default_hooks = dict(checkpoint=dict(save_best="lvis_fixed_ap/AP"), class_names=dict(strict=False))
