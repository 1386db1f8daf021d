# SDPT on mini GLIP and the "aerial" task: many things, smaller than pre-training ever showed.
_base_ = "sdpt_mini_thermal.py"

task = "aerial"
data_root = "data/scenes/aerial/"
train_dataloader = dict(dataset=dict(dataset=dict(task=task, data_root=data_root)))
val_dataloader = dict(dataset=dict(task=task, data_root=data_root))
test_dataloader = dict(dataset=dict(task=task, data_root=data_root))
val_evaluator = dict(ann_file=data_root + "annotations/val.json")
test_evaluator = dict(ann_file=data_root + "annotations/test.json")
