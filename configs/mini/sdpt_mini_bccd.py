# SDPT on mini GLIP and BCCD, blood cells: 205 to train on, 87 to choose the best epoch, 72 to
# test.
#   python tools/dataset_converters/voc2coco.py BCCD --out data/bccd \
#       --rename RBC="red blood cell" WBC="white blood cell" Platelets=platelet
_base_ = "sdpt_mini_raccoon.py"

data_root = "data/bccd/"
classes = ("platelet", "red blood cell", "white blood cell")
metainfo = dict(classes=classes)
train_dataloader = dict(dataset=dict(dataset=dict(data_root=data_root, metainfo=metainfo)))
val_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo))
test_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo))
val_evaluator = dict(ann_file=data_root + "annotations/val.json")
test_evaluator = dict(ann_file=data_root + "annotations/test.json")
