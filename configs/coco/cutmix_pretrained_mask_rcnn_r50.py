# Mask R-CNN, ResNet-50-FPN, on COCO, fine-tuned from a backbone pretrained with CutMix.
#
# Paper:    Table 7, "CutMix-pretrained": 36.7 box AP, 33.4 mask AP (the paper's figures; not yet reproduced
#           with this code).
# Setting:  Section 4.4: plain fine-tuning; differs from baseline_mask_rcnn_r50.py in the backbone's weights alone, of
#           78.6 top-1 in the paper.
# Hardware: the paper does not say. MMDetection's 1x schedule is for 8 GPUs.
# Command:  tools/dist_train.sh configs/coco/cutmix_pretrained_mask_rcnn_r50.py 8
#           It starts from work_dirs/cutmix_r50/epoch_300.pth; another checkpoint:
#           --cfg-options model.backbone.init_cfg.checkpoint=PATH
# Assumed:  as baseline_mask_rcnn_r50.py; and what cutmix_r50.py assumes of CutMix's training.
_base_ = 'baseline_mask_rcnn_r50.py'

model = dict(backbone=dict(init_cfg=dict(checkpoint='work_dirs/cutmix_r50/epoch_300.pth')))
custom_hooks = [
    dict(type='mmgradaug.PretrainedBackboneHook', produced_by='configs/imagenet/cutmix_r50.py'),
]
