# The same on mini CLIP and photographs of clothing.
_base_ = "base_to_new.py"

study = dict(name="base_to_new_mini", hosts=["mini_clip"], data=["clip_clothing_64px"])
