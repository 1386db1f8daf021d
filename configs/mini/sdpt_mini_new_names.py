# SDPT on mini GLIP and the "new_names" task: known things under names that mean nothing.
_base_ = "sdpt_mini_thermal.py"

task = "new_names"
data_root = "data/scenes/new_names/"
train_dataloader = dict(dataset=dict(dataset=dict(task=task, data_root=data_root)))
val_dataloader = dict(dataset=dict(task=task, data_root=data_root))
test_dataloader = dict(dataset=dict(task=task, data_root=data_root))
val_evaluator = dict(ann_file=data_root + "annotations/val.json")
test_evaluator = dict(ann_file=data_root + "annotations/test.json")

# Fewer epochs than the other tasks.
train_cfg = dict(max_epochs=18, val_interval=18)
