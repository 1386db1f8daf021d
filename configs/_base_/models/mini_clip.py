# A CLIP of 4.6 million parameters with MMPreTrain's classes and parameter names, for pictures of 64
# pixels; load_from = "mmsdpt://mini_clip". Heads are 64 wide as in CLIP, and both towers have six
# blocks, so that prompts can be coupled at every depth.
model = dict(
    type="mmsdpt.CLIP",
    data_preprocessor=dict(
        type="MultiModalDataPreprocessor",
        mean=[122.7709383, 116.7460125, 104.09373615],
        std=[68.5005327, 66.6321579, 70.32316305],
        to_rgb=True,
    ),
    vision_backbone=dict(
        type="VisionTransformer",
        arch=dict(embed_dims=192, num_layers=6, num_heads=3, feedforward_channels=768),
        img_size=64,
        patch_size=8,
        drop_rate=0.0,
        norm_cfg=dict(type="LN", eps=1e-5),
        patch_cfg=dict(bias=False),
        layer_cfgs=dict(act_cfg=dict(type="mmpretrain.QuickGELU")),
        pre_norm=True,
    ),
    projection=dict(type="CLIPProjection", in_channels=192, out_channels=128),
    text_backbone=dict(type="CLIPTransformer", width=128, layers=6, heads=2),
    tokenizer=dict(folder="mmsdpt://mini_clip"),
    vocab_size=4610,
    transformer_width=128,
    proj_dim=128,
    context_length=77,
)
