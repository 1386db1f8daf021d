# SDPT on GLIP-L and all images of your own data, as the converters write it (docs/new_dataset.md),
# with the schedule of GLIP's protocol on ODinW.
_base_ = ["glip_l_coco_k10.py", "../_base_/datasets/own_data.py"]

data_root = _base_.own_data_root
metainfo = _base_.own_metainfo
train_dataloader = dict(batch_size=4, dataset=_base_.own_train)
train_dataloader["dataset"]["dataset"].update(
    filter_cfg=dict(filter_empty_gt=True), pipeline=_base_.train_pipeline
)
val_dataloader = dict(dataset=_base_.own_val)
test_dataloader = dict(dataset=_base_.own_test)
val_evaluator = dict(ann_file=data_root + "annotations/val.json")
test_evaluator = dict(ann_file=data_root + "annotations/test.json")

# When the validation AP has not risen for more than 2 epochs, the rate falls to a tenth; after 4
# the run ends. The best epoch is kept. An AP that only equals the best has not risen.
train_cfg = dict(max_epochs=200)
param_scheduler = [
    dict(
        type="ReduceOnPlateauLR",
        monitor="coco/bbox_mAP",
        rule="greater",
        factor=0.1,
        patience=2,
        by_epoch=True,
    )
]
custom_hooks = [dict(type="mmsdpt.EarlyStoppingHook", monitor="coco/bbox_mAP", patience=4)]
