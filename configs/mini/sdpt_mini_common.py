# SDPT on mini GLIP and the "common" task: nothing is new, as where GLIP is tuned on COCO.
_base_ = "sdpt_mini_thermal.py"

task = "common"
data_root = "data/scenes/common/"
train_dataloader = dict(dataset=dict(dataset=dict(task=task, data_root=data_root)))
val_dataloader = dict(dataset=dict(task=task, data_root=data_root))
test_dataloader = dict(dataset=dict(task=task, data_root=data_root))
val_evaluator = dict(ann_file=data_root + "annotations/val.json")
test_evaluator = dict(ann_file=data_root + "annotations/test.json")
