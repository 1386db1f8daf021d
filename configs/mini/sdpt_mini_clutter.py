# SDPT on mini GLIP and the "clutter" task: crowds, and things of no class among them.
_base_ = "sdpt_mini_thermal.py"

task = "clutter"
data_root = "data/scenes/clutter/"
train_dataloader = dict(dataset=dict(dataset=dict(task=task, data_root=data_root)))
val_dataloader = dict(dataset=dict(task=task, data_root=data_root))
test_dataloader = dict(dataset=dict(task=task, data_root=data_root))
val_evaluator = dict(ann_file=data_root + "annotations/val.json")
test_evaluator = dict(ann_file=data_root + "annotations/test.json")
