# UCF101: the middle frames of videos of 101 actions.
_base_ = "clip_fewshot.py"

benchmark = dict(name="ucf101")
train_dataloader = dict(dataset=benchmark)
val_dataloader = dict(dataset=benchmark)
test_dataloader = dict(dataset=benchmark)
