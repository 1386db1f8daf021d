# GLIP-L as a host, on MMDetection's own file: model, COCO pipelines and data. Everything is frozen
# but the tuner that a config adds.
_base_ = "mmdet::glip/glip_atss_swin-l_fpn_dyhead_16xb2_ms-2x_funtune_coco.py"

custom_imports = dict(
    imports=[
        "mmsdpt.hosts",
        "mmsdpt.tuners",
        "mmsdpt.datasets",
        "mmsdpt.engine",
        "mmsdpt.evaluation",
    ],
    allow_failed_imports=False,
)
runner_type = "mmsdpt.TunerRunner"
load_from = "checkpoints/glip_l_mmdet-abfe026b.pth"

model = dict(
    type="mmsdpt.GLIP",
    backbone=dict(type="mmsdpt.SwinTransformer"),
    bbox_head=dict(type="mmsdpt.ATSSVLFusionHead", use_checkpoint=False),
    language_model=dict(type="mmsdpt.BertModel"),
)
default_hooks = dict(
    checkpoint=dict(
        _delete_=True,
        type="mmsdpt.TunerCheckpointHook",
        interval=1,
        max_keep_ckpts=2,
        save_best="coco/bbox_mAP",
        rule="greater",
    ),
    trainable_table=dict(type="mmsdpt.TrainableTableHook"),
    class_names=dict(type="mmsdpt.ClassNamesHook"),
)
randomness = dict(seed=0)
