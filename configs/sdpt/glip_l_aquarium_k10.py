# SDPT on GLIP-L and Aquarium of ODinW13, the dataset of the poster's ablations.
_base_ = "glip_l_odinw_raccoon_k10.py"

data_root = "data/odinw/Aquarium/Aquarium Combined.v2-raw-1024.coco/"
metainfo = dict(classes=("fish", "jellyfish", "penguin", "puffin", "shark", "starfish", "stingray"))

train_dataloader = dict(dataset=dict(dataset=dict(data_root=data_root, metainfo=metainfo)))
val_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo))
test_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo))
val_evaluator = dict(ann_file=data_root + _base_.val_ann)
test_evaluator = dict(ann_file=data_root + _base_.test_ann)
