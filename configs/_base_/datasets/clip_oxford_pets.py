# Oxford-IIIT Pets: 37 classes.
_base_ = "clip_fewshot.py"

own = dict(name="oxford_pets")
train_dataloader = dict(dataset=own)
val_dataloader = dict(dataset=own)
test_dataloader = dict(dataset=own)
