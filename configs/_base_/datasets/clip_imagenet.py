# ImageNet: 1,000 classes; validation and test are both images/val.
_base_ = "clip_fewshot.py"

benchmark = dict(name="imagenet")
train_dataloader = dict(dataset=benchmark)
val_dataloader = dict(dataset=benchmark)
test_dataloader = dict(dataset=benchmark)
