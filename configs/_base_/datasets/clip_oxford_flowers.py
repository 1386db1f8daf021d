# Oxford Flowers 102.
_base_ = "clip_fewshot.py"

benchmark = dict(name="oxford_flowers")
train_dataloader = dict(dataset=benchmark)
val_dataloader = dict(dataset=benchmark)
test_dataloader = dict(dataset=benchmark)
