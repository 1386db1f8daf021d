# GLIP-L as a host: glip_t.py at the sizes of MMDetection's file for GLIP-L.
_base_ = "glip_t.py"

load_from = "checkpoints/glip_l_mmdet-abfe026b.pth"
model = dict(
    backbone=dict(
        embed_dims=192,
        depths=[2, 2, 18, 2],
        num_heads=[6, 12, 24, 48],
        window_size=12,
        drop_path_rate=0.4,
    ),
    neck=dict(in_channels=[384, 768, 1536]),
    bbox_head=dict(num_dyhead_blocks=8),
)
