# SDPT on GLIP-L and Raccoon of ODinW13, all images.
_base_ = "glip_l_own_data_k10.py"

data_root = "data/odinw/Raccoon/Raccoon.v2-raw.coco/"
metainfo = dict(classes=("raccoon",))
train_ann = "train/annotations_without_background.json"
val_ann = "valid/annotations_without_background.json"
test_ann = "test/annotations_without_background.json"

train_dataloader = dict(
    dataset=dict(
        dataset=dict(
            data_root=data_root,
            metainfo=metainfo,
            ann_file=train_ann,
            data_prefix=dict(img="train/"),
        )
    )
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
