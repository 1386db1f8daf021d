# FGVC Aircraft: 100 variants.
_base_ = "clip_fewshot.py"

own = dict(name="fgvc_aircraft")
train_dataloader = dict(dataset=own)
val_dataloader = dict(dataset=own)
test_dataloader = dict(dataset=own)
