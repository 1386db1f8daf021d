# CLIP ViT-B/32, the names and sizes of MMPreTrain's; weights by
# tools/model_converters/clip2mmsdpt.py, load_from = "checkpoints/clip_vit_b32.safetensors".
_base_ = "clip_vit_b16.py"

model = dict(vision_backbone=dict(patch_size=32))
load_from = "checkpoints/clip_vit_b32.safetensors"
