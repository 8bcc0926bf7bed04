# Mask R-CNN, ResNet-50-FPN, on COCO, fine-tuned with trained batch norms from a backbone pretrained with CutMix.
#
# Paper:    none in this form. Table 7, "CutMix-pretrained" has 36.7 / 33.4, and does not say how its batch norms were
#           trained.
# Setting:  the control baseline_syncbn_mask_rcnn_r50.py with another backbone, of 78.6 top-1 in the paper.
# Hardware: the paper does not say. MMDetection's 1x schedule is for 8 GPUs; not measured here.
# Command:  tools/dist_train.sh configs/coco/cutmix_pretrained_syncbn_mask_rcnn_r50.py 8
#           It starts from work_dirs/cutmix_r50/epoch_300.pth; another checkpoint:
#           --cfg-options model.backbone.init_cfg.checkpoint=PATH
# Assumed:  as baseline_mask_rcnn_r50.py; and what cutmix_r50.py assumes.
_base_ = 'baseline_syncbn_mask_rcnn_r50.py'

model = dict(backbone=dict(init_cfg=dict(checkpoint='work_dirs/cutmix_r50/epoch_300.pth')))
custom_hooks = [
    dict(type='mmgradaug.PretrainedBackboneHook', produced_by='configs/imagenet/cutmix_r50.py'),
]
