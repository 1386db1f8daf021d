# Caltech-101: 100 classes.
_base_ = "clip_fewshot.py"

benchmark = dict(name="caltech-101")
train_dataloader = dict(dataset=benchmark)
val_dataloader = dict(dataset=benchmark)
test_dataloader = dict(dataset=benchmark)
