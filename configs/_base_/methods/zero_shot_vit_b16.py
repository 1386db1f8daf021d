# CLIP ViT-B/16 as it is: nothing trains.
_base_ = ["../models/clip_vit_b16.py", "../clip_runtime.py"]
