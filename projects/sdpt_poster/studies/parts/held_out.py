# What mini GLIP knew before tuning: 60 pictures of combinations that it had to compose.
_base_ = "../../../../configs/mini/zero_shot_held_out.py"

test_dataloader = dict(dataset=dict(split="short"))
test_evaluator = dict(ann_file=_base_.data_root + "annotations/short.json")
