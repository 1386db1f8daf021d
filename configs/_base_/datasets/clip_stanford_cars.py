# Stanford Cars: 196 classes.
_base_ = "clip_fewshot.py"

own = dict(name="stanford_cars")
train_dataloader = dict(dataset=own)
val_dataloader = dict(dataset=own)
test_dataloader = dict(dataset=own)
