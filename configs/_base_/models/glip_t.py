# GLIP-T as a host, on MMDetection's own file: model, COCO pipelines and data. Everything is frozen
# but the tuner that a config adds.
_base_ = [
    "mmdet::glip/glip_atss_swin-t_fpn_dyhead_16xb2_ms-2x_funtune_coco.py",
    "../coco_tuning.py",
]

load_from = "checkpoints/glip_tiny_mmdet-c24ce662.pth"
model = dict(
    type="mmsdpt.GLIP",
    backbone=dict(type="mmsdpt.SwinTransformer"),
    bbox_head=dict(type="mmsdpt.ATSSVLFusionHead", use_checkpoint=False),
    language_model=dict(type="mmsdpt.BertModel"),
)
default_hooks = _base_.tuning_hooks
# COCO once per epoch: MMDetection's fine-tuning repeats it.
train_dataloader = dict(**_base_.tuning_loader, dataset=dict(times=1))
train_cfg = dict(max_epochs=12)
optim_wrapper = dict(**_base_.tuning_optim, clip_grad=dict(max_norm=1.0))
param_scheduler = _base_.tuning_schedule
