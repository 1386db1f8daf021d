# SDPT on GLIP-L and Raccoon of ODinW13, full data, after GLIP's protocol. For k shots:
# --cfg-options train_dataloader.dataset.shots=10 train_dataloader.dataset.seed=3
_base_ = "glip_l_coco_k10.py"

data_root = "data/odinw/Raccoon/Raccoon.v2-raw.coco/"
metainfo = dict(classes=("raccoon",))
train_ann = "train/annotations_without_background.json"
val_ann = "valid/annotations_without_background.json"
test_ann = "test/annotations_without_background.json"

max_epochs = 200
train_cfg = dict(max_epochs=max_epochs)
train_dataloader = dict(
    batch_size=4,
    dataset=dict(
        _delete_=True,
        type="mmsdpt.FewShotDataset",
        shots=0,
        copies=1,
        seed=3,
        dataset=dict(
            type="CocoDataset",
            data_root=data_root,
            metainfo=metainfo,
            ann_file=train_ann,
            data_prefix=dict(img="train/"),
            pipeline=_base_.train_pipeline,
            return_classes=True,
        ),
    ),
)
val_dataloader = dict(
    dataset=dict(
        data_root=data_root, metainfo=metainfo, ann_file=val_ann, data_prefix=dict(img="valid/")
    )
)
test_dataloader = dict(
    dataset=dict(
        data_root=data_root, metainfo=metainfo, ann_file=test_ann, data_prefix=dict(img="test/")
    )
)
val_evaluator = dict(ann_file=data_root + val_ann)
test_evaluator = dict(ann_file=data_root + test_ann)

# A tenth of the rate when the validation AP stalls for 3 evaluations, stop after 8; the best epoch
# is kept.
param_scheduler = [
    dict(
        type="ReduceOnPlateauLR",
        monitor="coco/bbox_mAP",
        rule="greater",
        factor=0.1,
        patience=3,
        by_epoch=True,
    )
]
custom_hooks = [
    dict(
        type="EarlyStoppingHook", monitor="coco/bbox_mAP", rule="greater", patience=8, min_delta=0.0
    )
]
