# Describable Textures: 47 classes.
_base_ = "clip_fewshot.py"

own = dict(name="dtd")
train_dataloader = dict(dataset=own)
val_dataloader = dict(dataset=own)
test_dataloader = dict(dataset=own)
