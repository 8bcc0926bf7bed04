# Mask R-CNN, ResNet-50-FPN, on COCO, fine-tuned with trained batch norms from a backbone pretrained with GradAug.
#
# Paper:    none in this form. Table 7, "GradAug-pretrained" has 37.7 / 34.5, and does not say how its batch norms were
#           trained.
# Setting:  the control baseline_syncbn_mask_rcnn_r50.py with another backbone, of 78.8 top-1 in the paper.
#           configs/mask_rcnn_gradaug.py differs from it in GradAug alone.
# Hardware: the paper does not say. MMDetection's 1x schedule is for 8 GPUs; not measured here.
# Command:  tools/dist_train.sh configs/coco/gradaug_pretrained_syncbn_mask_rcnn_r50.py 8
#           It starts from work_dirs/gradaug_r50_imagenet/epoch_120.pth; another checkpoint:
#           --cfg-options model.backbone.init_cfg.checkpoint=PATH
# Assumed:  as baseline_mask_rcnn_r50.py; and what gradaug_r50_imagenet.py assumes.
_base_ = 'baseline_syncbn_mask_rcnn_r50.py'

model = dict(
    backbone=dict(init_cfg=dict(checkpoint='work_dirs/gradaug_r50_imagenet/epoch_120.pth'))
)
custom_hooks = [
    dict(type='mmgradaug.PretrainedBackboneHook', produced_by='configs/gradaug_r50_imagenet.py'),
]
