# Mask R-CNN, ResNet-50-FPN, on COCO, fine-tuned from a backbone pretrained with Mixup.
#
# Paper:    Table 7, "Mixup-pretrained": 35.9 box AP, 32.7 mask AP (the paper's figures; not yet reproduced
#           with this code).
# Setting:  Section 4.4: plain fine-tuning; differs from baseline_mask_rcnn_r50.py in the backbone's weights alone, of
#           77.9 top-1 in the paper.
# Hardware: the paper does not say. MMDetection's 1x schedule is for 8 GPUs.
# Command:  tools/dist_train.sh configs/coco/mixup_pretrained_mask_rcnn_r50.py 8
#           It starts from work_dirs/mixup_r50/epoch_200.pth; another checkpoint:
#           --cfg-options model.backbone.init_cfg.checkpoint=PATH
# Assumed:  as baseline_mask_rcnn_r50.py; and what mixup_r50.py assumes of Mixup's training.
_base_ = 'baseline_mask_rcnn_r50.py'

model = dict(backbone=dict(init_cfg=dict(checkpoint='work_dirs/mixup_r50/epoch_200.pth')))
custom_hooks = [
    dict(type='mmgradaug.PretrainedBackboneHook', produced_by='configs/imagenet/mixup_r50.py'),
]
