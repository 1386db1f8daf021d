# Caltech-101: 100 classes.
_base_ = "clip_fewshot.py"

own = dict(name="caltech-101")
train_dataloader = dict(dataset=own)
val_dataloader = dict(dataset=own)
test_dataloader = dict(dataset=own)
