# SUN397: scenes, 397 classes.
_base_ = "clip_fewshot.py"

own = dict(name="sun397")
train_dataloader = dict(dataset=own)
val_dataloader = dict(dataset=own)
test_dataloader = dict(dataset=own)
