# Grounding DINO with Swin-T as a host, on MMDetection's own file: model, COCO pipelines and data.
# Everything is frozen but the tuner that a config adds.
_base_ = [
    "mmdet::grounding_dino/grounding_dino_swin-t_finetune_16xb2_1x_coco.py",
    "../coco_tuning.py",
]

load_from = "checkpoints/groundingdino_swint_ogc_mmdet-822d7e9d.pth"
model = dict(
    type="mmsdpt.GroundingDINO",
    backbone=dict(type="mmsdpt.SwinTransformer"),
    # The scale that MMDetection's fine-tuning adds, e^0 at first, is not in the pre-trained file.
    bbox_head=dict(type="mmsdpt.GroundingDINOHead", contrastive_cfg=dict(log_scale="none")),
    language_model=dict(type="mmsdpt.BertModel"),
)
default_hooks = _base_.tuning_hooks
train_dataloader = _base_.tuning_loader
# The bound of MMDetection's fine-tuning.
optim_wrapper = dict(**_base_.tuning_optim, clip_grad=dict(max_norm=0.1))
param_scheduler = _base_.tuning_schedule
