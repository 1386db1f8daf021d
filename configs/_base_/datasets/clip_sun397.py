# SUN397: scenes, 397 classes.
_base_ = "clip_fewshot.py"

benchmark = dict(name="sun397")
train_dataloader = dict(dataset=benchmark)
val_dataloader = dict(dataset=benchmark)
test_dataloader = dict(dataset=benchmark)
