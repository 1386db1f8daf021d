# FGVC Aircraft: 100 variants.
_base_ = "clip_fewshot.py"

benchmark = dict(name="fgvc_aircraft")
train_dataloader = dict(dataset=benchmark)
val_dataloader = dict(dataset=benchmark)
test_dataloader = dict(dataset=benchmark)
