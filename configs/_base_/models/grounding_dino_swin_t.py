# Grounding DINO with Swin-T as a host, on MMDetection's own file: model, COCO pipelines and data.
# Everything is frozen but the tuner that a config adds.
_base_ = "mmdet::grounding_dino/grounding_dino_swin-t_finetune_16xb2_1x_coco.py"

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
load_from = "checkpoints/groundingdino_swint_ogc_mmdet-822d7e9d.pth"

model = dict(
    type="mmsdpt.GroundingDINO",
    backbone=dict(type="mmsdpt.SwinTransformer"),
    # The scale that MMDetection's fine-tuning adds, e^0 at first, is not in the pre-trained file.
    bbox_head=dict(type="mmsdpt.GroundingDINOHead", contrastive_cfg=dict(log_scale="none")),
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

# Workers start again in every epoch, and draw new seeds.
train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=False,
    worker_init_fn=dict(type="mmsdpt.seed_worker"),
)
optim_wrapper = dict(
    _delete_=True,
    type="OptimWrapper",
    constructor="mmsdpt.TrainableOptimWrapperConstructor",
    optimizer=dict(type="AdamW"),  # a method sets its own rate and decay
    clip_grad=dict(max_norm=0.1),  # as in MMDetection's fine-tuning
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=500),
    # After epochs 8 and 11 of 12.
    dict(
        type="MultiStepLR",
        by_epoch=True,
        milestones=["8/12 max_epochs", "11/12 max_epochs"],
        gamma=0.1,
    ),
]
