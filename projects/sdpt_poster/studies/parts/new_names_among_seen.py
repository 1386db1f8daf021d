# The words of new_names and 12 phrases of seen.py in one caption, on pictures of the first.
_base_ = "../../../../configs/mini/zero_shot_seen.py"

task = "new_names_among_seen"
data_root = f"data/scenes/{task}/"
test_dataloader = dict(dataset=dict(task=task, data_root=data_root))
test_evaluator = dict(ann_file=data_root + "annotations/test.json")
