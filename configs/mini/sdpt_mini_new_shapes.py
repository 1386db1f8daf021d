# SDPT on mini GLIP and the "new_shapes" task: shapes that pre-training never showed.
_base_ = "sdpt_mini_thermal.py"

task = "new_shapes"
data_root = "data/scenes/new_shapes/"
train_dataloader = dict(dataset=dict(dataset=dict(task=task, data_root=data_root)))
val_dataloader = dict(dataset=dict(task=task, data_root=data_root))
test_dataloader = dict(dataset=dict(task=task, data_root=data_root))
val_evaluator = dict(ann_file=data_root + "annotations/val.json")
test_evaluator = dict(ann_file=data_root + "annotations/test.json")
