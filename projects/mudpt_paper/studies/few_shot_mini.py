# The same on mini CLIP and photographs of clothing, in about an hour of processor time.
_base_ = "few_shot.py"

study = dict(name="few_shot_mini", hosts=["mini_clip"], data=["clip_clothing_64px"])
