# SDPT on mini GLIP and Packages, photographs: 19 to train on, 4 to choose the best epoch, 3 to
# test.
#   python tools/dataset_converters/yolo2coco.py PACKAGES/data.yaml --out data/packages
_base_ = "sdpt_mini_raccoon.py"

data_root = "data/packages/"
metainfo = dict(classes=("package",))
train_dataloader = dict(
    batch_size=4, dataset=dict(copies=4, dataset=dict(data_root=data_root, metainfo=metainfo))
)
val_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo))
test_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo))
val_evaluator = dict(ann_file=data_root + "annotations/val.json")
test_evaluator = dict(ann_file=data_root + "annotations/test.json")
