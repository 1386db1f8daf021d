# SDPT on MM-Grounding-DINO with Swin-T and your own data, as the converters write it
# (docs/new_dataset.md): 61,440 parameters.
_base_ = ["mm_grounding_dino_swin_t_coco_k10.py", "../_base_/datasets/own_data.py"]

data_root = _base_.own_data_root
metainfo = _base_.own_metainfo
train_dataloader = dict(dataset=_base_.own_train)
train_dataloader["dataset"]["dataset"].update(
    filter_cfg=dict(filter_empty_gt=False), pipeline=_base_.train_pipeline
)
val_dataloader = dict(dataset=_base_.own_val)
test_dataloader = dict(dataset=_base_.own_test)
val_evaluator = dict(ann_file=data_root + "annotations/val.json")
test_evaluator = dict(ann_file=data_root + "annotations/test.json")
