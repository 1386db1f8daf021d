# SDPT on mini GLIP and the "long_tail" task: 24 classes, most of them rare, scored as LVIS is.
_base_ = "sdpt_mini_thermal.py"

task = "long_tail"
data_root = "data/scenes/long_tail/"
# All images: there are no ten of a rare class.
train_dataloader = dict(dataset=dict(shots=0, dataset=dict(task=task, data_root=data_root)))
val_dataloader = dict(dataset=dict(task=task, data_root=data_root))
test_dataloader = dict(dataset=dict(task=task, data_root=data_root))
lvis = dict(_delete_=True, type="mmsdpt.LVISMetric")
val_evaluator = dict(**lvis, ann_file=data_root + "annotations/val.json")
test_evaluator = dict(**lvis, ann_file=data_root + "annotations/test.json")
train_cfg = dict(max_epochs=5, val_interval=5)
