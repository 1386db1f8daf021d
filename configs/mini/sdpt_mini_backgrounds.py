# SDPT on mini GLIP and the "backgrounds" task: strongly coloured backgrounds, poor light, noise.
_base_ = "sdpt_mini_thermal.py"

task = "backgrounds"
data_root = "data/scenes/backgrounds/"
train_dataloader = dict(dataset=dict(dataset=dict(task=task, data_root=data_root)))
val_dataloader = dict(dataset=dict(task=task, data_root=data_root))
test_dataloader = dict(dataset=dict(task=task, data_root=data_root))
val_evaluator = dict(ann_file=data_root + "annotations/val.json")
test_evaluator = dict(ann_file=data_root + "annotations/test.json")
