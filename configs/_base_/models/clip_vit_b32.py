# CLIP ViT-B/32, the names and sizes of MMPreTrain's; weights by
# tools/model_converters/clip2mmsdpt.py, load_from = "checkpoints/clip_vit_b32.safetensors".
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
        arch="base",
        img_size=224,
        patch_size=32,
        drop_rate=0.0,
        # CLIP was trained with 1e-5; MMPreTrain's default is 1e-6.
        norm_cfg=dict(type="LN", eps=1e-5),
        layer_cfgs=dict(act_cfg=dict(type="mmpretrain.QuickGELU")),
        pre_norm=True,
    ),
    projection=dict(type="CLIPProjection", in_channels=768, out_channels=512),
    text_backbone=dict(type="CLIPTransformer", width=512, layers=12, heads=8),
    tokenizer=dict(folder=None),  # CLIP's vocabulary, in the package
    vocab_size=49408,
    transformer_width=512,
    proj_dim=512,
    context_length=77,
)
load_from = "checkpoints/clip_vit_b32.safetensors"
