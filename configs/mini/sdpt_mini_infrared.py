# SDPT on mini GLIP and the "infrared" task: the pictures of "thermal" under words that it knows.
_base_ = "sdpt_mini_thermal.py"

task = "infrared"
data_root = "data/scenes/infrared/"
train_dataloader = dict(dataset=dict(dataset=dict(task=task, data_root=data_root)))
val_dataloader = dict(dataset=dict(task=task, data_root=data_root))
test_dataloader = dict(dataset=dict(task=task, data_root=data_root))
val_evaluator = dict(ann_file=data_root + "annotations/val.json")
test_evaluator = dict(ann_file=data_root + "annotations/test.json")
