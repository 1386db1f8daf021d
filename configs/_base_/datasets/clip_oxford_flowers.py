# Oxford Flowers 102.
_base_ = "clip_fewshot.py"

own = dict(name="oxford_flowers")
train_dataloader = dict(dataset=own)
val_dataloader = dict(dataset=own)
test_dataloader = dict(dataset=own)
