# Describable Textures: 47 classes.
_base_ = "clip_fewshot.py"

benchmark = dict(name="dtd")
train_dataloader = dict(dataset=benchmark)
val_dataloader = dict(dataset=benchmark)
test_dataloader = dict(dataset=benchmark)
