# EuroSAT: satellite images, 10 classes.
_base_ = "clip_fewshot.py"

benchmark = dict(name="eurosat")
train_dataloader = dict(dataset=benchmark)
val_dataloader = dict(dataset=benchmark)
test_dataloader = dict(dataset=benchmark)
