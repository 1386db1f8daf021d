# Stanford Cars: 196 classes.
_base_ = "clip_fewshot.py"

benchmark = dict(name="stanford_cars")
train_dataloader = dict(dataset=benchmark)
val_dataloader = dict(dataset=benchmark)
test_dataloader = dict(dataset=benchmark)
