# Mask R-CNN, ResNet-50-FPN, on COCO, fine-tuned from a backbone pretrained with GradAug.
#
# Paper:    Table 7, "GradAug-pretrained": 37.7 box AP, 34.5 mask AP (the paper's figures; not yet reproduced
#           with this code).
# Setting:  Section 4.4: plain fine-tuning; differs from baseline_mask_rcnn_r50.py in the backbone's weights alone, of
#           78.8 top-1 in the paper.
# Hardware: the paper does not say. MMDetection's 1x schedule is for 8 GPUs.
# Command:  tools/dist_train.sh configs/coco/gradaug_pretrained_mask_rcnn_r50.py 8
#           It starts from work_dirs/gradaug_r50_imagenet/epoch_120.pth; another checkpoint:
#           --cfg-options model.backbone.init_cfg.checkpoint=PATH
# Assumed:  as baseline_mask_rcnn_r50.py; and what gradaug_r50_imagenet.py assumes.
_base_ = 'baseline_mask_rcnn_r50.py'

model = dict(
    backbone=dict(init_cfg=dict(checkpoint='work_dirs/gradaug_r50_imagenet/epoch_120.pth'))
)
custom_hooks = [
    dict(type='mmgradaug.PretrainedBackboneHook', produced_by='configs/gradaug_r50_imagenet.py'),
]
