# SDPT on mini GLIP and Aquarium, photographs: 448 to train on, 127 to choose the best epoch, 63 to
# test.
#   python tools/dataset_converters/yolo2coco.py AQUARIUM/data.yaml --out data/aquarium
_base_ = "sdpt_mini_raccoon.py"

data_root = "data/aquarium/"
classes = ("fish", "jellyfish", "penguin", "puffin", "shark", "starfish", "stingray")
metainfo = dict(classes=classes)
train_dataloader = dict(dataset=dict(dataset=dict(data_root=data_root, metainfo=metainfo)))
val_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo))
test_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo))
val_evaluator = dict(ann_file=data_root + "annotations/val.json")
test_evaluator = dict(ann_file=data_root + "annotations/test.json")
