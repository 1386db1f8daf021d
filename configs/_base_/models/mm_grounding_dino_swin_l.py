# MM-Grounding-DINO with Swin-L as a host: mm_grounding_dino_swin_t.py at the sizes of MMDetection's
# file for Swin-L.
_base_ = "mm_grounding_dino_swin_t.py"

load_from = "checkpoints/grounding_dino_swin-l_pretrain_all-56d69e78.pth"
num_levels = 5
model = dict(
    use_autocast=True,
    num_feature_levels=num_levels,
    backbone=dict(
        pretrain_img_size=384,
        embed_dims=192,
        depths=[2, 2, 18, 2],
        num_heads=[6, 12, 24, 48],
        window_size=12,
        out_indices=(0, 1, 2, 3),
    ),
    neck=dict(in_channels=[192, 384, 768, 1536], num_outs=num_levels),
    encoder=dict(layer_cfg=dict(self_attn_cfg=dict(num_levels=num_levels))),
    decoder=dict(layer_cfg=dict(cross_attn_cfg=dict(num_levels=num_levels))),
)
