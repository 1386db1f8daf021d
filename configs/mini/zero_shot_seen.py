# As zero_shot_held_out.py, with 24 phrases of combinations that pre-training did show.
_base_ = "zero_shot_held_out.py"

task = "seen"
data_root = "data/scenes/seen/"
test_dataloader = dict(dataset=dict(task=task, data_root=data_root))
test_evaluator = dict(ann_file=data_root + "annotations/test.json")
