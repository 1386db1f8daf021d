# ImageNet: 1,000 classes; validation and test are both images/val.
_base_ = "clip_fewshot.py"

own = dict(name="imagenet")
train_dataloader = dict(dataset=own)
val_dataloader = dict(dataset=own)
test_dataloader = dict(dataset=own)
