# Mini Grounding DINO: the classes and parameter names of Grounding DINO at a small size, with the
# encoders of mini GLIP.
_base_ = "mini_glip.py"

channels = 128
num_levels = 3
width = dict(embed_dims=channels, dropout=0.0)
ffn = dict(embed_dims=channels, feedforward_channels=256, ffn_drop=0.0)

model = dict(
    _delete_=True,
    type="mmsdpt.GroundingDINO",
    num_queries=60,
    num_feature_levels=num_levels,
    with_box_refine=True,
    as_two_stage=True,
    data_preprocessor=dict(
        type="DetDataPreprocessor",
        mean=[103.53, 116.28, 123.675],
        std=[57.375, 57.12, 58.395],
        bgr_to_rgb=False,
        pad_mask=False,
    ),
    language_model=dict(
        type="mmsdpt.BertModel",
        name="mmsdpt://mini_bert",
        use_sub_sentence_represent=True,
        special_tokens_list=["[CLS]", "[SEP]", ".", "?"],
    ),
    backbone=_base_.model.backbone,
    neck=dict(
        type="ChannelMapper",
        in_channels=[64, 128],
        kernel_size=1,
        out_channels=channels,
        act_cfg=None,
        bias=True,
        norm_cfg=dict(type="GN", num_groups=16),
        num_outs=num_levels,
    ),
    encoder=dict(
        num_layers=3,
        # Half of the usual points: reading them takes most of a step.
        layer_cfg=dict(
            self_attn_cfg=dict(num_levels=num_levels, num_points=2, **width), ffn_cfg=ffn
        ),
        text_layer_cfg=dict(self_attn_cfg=dict(num_heads=4, **width), ffn_cfg=ffn),
        fusion_layer_cfg=dict(
            v_dim=channels, l_dim=channels, embed_dim=256, num_heads=4, dropout=0.0
        ),
    ),
    decoder=dict(
        num_layers=3,
        return_intermediate=True,
        layer_cfg=dict(
            self_attn_cfg=dict(num_heads=8, **width),
            cross_attn_text_cfg=dict(num_heads=8, **width),
            cross_attn_cfg=dict(num_levels=num_levels, num_heads=8, **width),
            ffn_cfg=ffn,
        ),
        post_norm_cfg=None,
    ),
    positional_encoding=dict(num_feats=channels // 2, normalize=True, offset=0.0, temperature=20),
    bbox_head=dict(
        type="mmsdpt.GroundingDINOHead",
        embed_dims=channels,
        num_classes=80,
        sync_cls_avg_factor=True,
        contrastive_cfg=dict(max_text_len=256, log_scale="auto", bias=True),
        loss_cls=dict(type="FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type="L1Loss", loss_weight=5.0),
        loss_iou=dict(type="GIoULoss", loss_weight=2.0),
    ),
    dn_cfg=dict(
        label_noise_scale=0.5,
        box_noise_scale=1.0,
        group_cfg=dict(dynamic=True, num_groups=None, num_dn_queries=30),
    ),
    train_cfg=dict(
        assigner=dict(
            type="HungarianAssigner",
            match_costs=[
                dict(type="BinaryFocalLossCost", weight=2.0),
                dict(type="BBoxL1Cost", weight=5.0, box_format="xywh"),
                dict(type="IoUCost", iou_mode="giou", weight=2.0),
            ],
        )
    ),
    test_cfg=dict(max_per_img=60),
)
