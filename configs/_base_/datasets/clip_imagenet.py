# ImageNet: 1,000 classes; images/val are the test images, and validation images are
# training images beyond the shots.
_base_ = "clip_fewshot.py"

own = dict(name="imagenet")
train_dataloader = dict(dataset=own)
val_dataloader = dict(dataset=own)
test_dataloader = dict(dataset=own)
