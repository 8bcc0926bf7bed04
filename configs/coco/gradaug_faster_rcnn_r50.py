# Faster R-CNN, ResNet-50-FPN, on COCO with GradAug: MMDetection's own config and what GradAug adds.
#
# Paper:    none; it has Mask R-CNN only (Table 7). No figure is expected, none has been measured.
# Setting:  mmdet's faster_rcnn/faster-rcnn_r50_fpn_1x_coco, with GradAug as in configs/mask_rcnn_gradaug.py.
# Hardware: the paper does not say. MMDetection's schedule is for 8 GPUs; not measured here. On a CPU an iteration of
#           Mask R-CNN is 2.9 times a plain one (docs/results/speed.md).
# Command:  tools/dist_train.sh configs/coco/gradaug_faster_rcnn_r50.py 8
#           COCO is where MMDetection expects it, data/coco (a link will do). The backbone starts from torchvision's
#           ResNet-50, which MMDetection downloads.
# Assumed:  what configs/mask_rcnn_gradaug.py assumes.
_base_ = ['mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', '../_base_/gradaug_detection.py']

model = dict(
    type='mmgradaug.GradAugDetector',
    detector='mmdet.FasterRCNN',
    gradaug=_base_.gradaug_settings,
    backbone=_base_.trained_backbone,
)
optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))
default_hooks = dict(run_record=dict(type='mmgradaug.RunRecordHook'))
