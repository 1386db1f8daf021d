# SDPT on GLIP-L and Packages of ODinW13.
_base_ = "glip_l_odinw_raccoon_k10.py"

data_root = "data/odinw/Packages/Raw/"
metainfo = dict(classes=("package",))

train_dataloader = dict(dataset=dict(dataset=dict(data_root=data_root, metainfo=metainfo)))
val_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo))
test_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo))
val_evaluator = dict(ann_file=data_root + _base_.val_ann)
test_evaluator = dict(ann_file=data_root + _base_.test_ann)
