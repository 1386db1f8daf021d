# Mini GLIP: the classes and parameter names of GLIP at a size that two cores can train.
lang_model_name = "mmsdpt://mini_bert"

model = dict(
    type="mmsdpt.GLIP",
    data_preprocessor=dict(
        type="DetDataPreprocessor",
        mean=[103.53, 116.28, 123.675],
        std=[57.375, 57.12, 58.395],
        bgr_to_rgb=False,
        pad_size_divisor=32,
    ),
    backbone=dict(
        type="SwinTransformer",
        embed_dims=32,
        depths=[2, 2, 2],
        num_heads=[2, 4, 8],
        window_size=5,
        mlp_ratio=4,
        strides=(4, 2, 2),
        drop_path_rate=0.0,
        out_indices=(1, 2),
    ),
    neck=dict(
        type="FPN",
        in_channels=[64, 128],
        out_channels=64,
        start_level=0,
        relu_before_extra_convs=True,
        add_extra_convs="on_output",
        num_outs=5,
    ),
    bbox_head=dict(
        type="mmsdpt.ATSSVLFusionHead",
        lang_model_name=lang_model_name,
        num_classes=80,
        in_channels=64,
        feat_channels=64,
        early_fuse=True,
        num_dyhead_blocks=3,
        fusion=dict(embed_dim=256, num_heads=4, dropout=0.0),
        anchor_generator=dict(
            type="AnchorGenerator",
            ratios=[1.0],
            octave_base_scale=4,
            scales_per_octave=1,
            strides=[8, 16, 32, 64, 128],
            center_offset=0.5,
        ),
        bbox_coder=dict(
            type="DeltaXYWHBBoxCoderForGLIP",
            target_means=[0.0, 0.0, 0.0, 0.0],
            target_stds=[0.1, 0.1, 0.2, 0.2],
        ),
        loss_cls=dict(type="FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type="GIoULoss", loss_weight=2.0),
        loss_centerness=dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0),
    ),
    language_model=dict(type="mmsdpt.BertModel", name=lang_model_name),
    train_cfg=dict(
        assigner=dict(type="ATSSAssigner", topk=9, iou_calculator=dict(type="BboxOverlaps2D_GLIP")),
        allowed_border=-1,
        pos_weight=-1,
        debug=False,
    ),
    test_cfg=dict(
        nms_pre=1000, min_bbox_size=0, score_thr=0.05, nms=dict(type="nms", iou_threshold=0.6), max_per_img=100
    ),
)
