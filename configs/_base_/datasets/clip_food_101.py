# Food-101.
_base_ = "clip_fewshot.py"

own = dict(name="food-101")
train_dataloader = dict(dataset=own)
val_dataloader = dict(dataset=own)
test_dataloader = dict(dataset=own)
