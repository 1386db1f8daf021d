# Oxford-IIIT Pets: 37 classes.
_base_ = "clip_fewshot.py"

benchmark = dict(name="oxford_pets")
train_dataloader = dict(dataset=benchmark)
val_dataloader = dict(dataset=benchmark)
test_dataloader = dict(dataset=benchmark)
