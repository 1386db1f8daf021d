# UCF101: the middle frames of videos of 101 actions.
_base_ = "clip_fewshot.py"

own = dict(name="ucf101")
train_dataloader = dict(dataset=own)
val_dataloader = dict(dataset=own)
test_dataloader = dict(dataset=own)
