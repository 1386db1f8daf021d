# Food-101.
_base_ = "clip_fewshot.py"

benchmark = dict(name="food-101")
train_dataloader = dict(dataset=benchmark)
val_dataloader = dict(dataset=benchmark)
test_dataloader = dict(dataset=benchmark)
