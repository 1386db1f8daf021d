# CLIP ViT-L/14, the names and sizes of MMPreTrain's; weights by
# tools/model_converters/clip2mmsdpt.py, load_from = "checkpoints/clip_vit_l14.safetensors".
_base_ = "clip_vit_b16.py"

model = dict(
    vision_backbone=dict(arch="large", patch_size=14),
    projection=dict(in_channels=1024, out_channels=768),
    text_backbone=dict(width=768, heads=12),
    transformer_width=768,
    proj_dim=768,
)
load_from = "checkpoints/clip_vit_l14.safetensors"
