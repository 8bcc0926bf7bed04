# FCOS, ResNet-50-FPN, on COCO with GradAug: MMDetection's own config and what GradAug adds.
#
# Paper:    none; it has Mask R-CNN only (Table 7). No figure is expected, none has been measured.
# Setting:  mmdet's fcos/fcos_r50-caffe_fpn_gn-head_1x_coco, with GradAug as in configs/mask_rcnn_gradaug.py.
# Hardware: the paper does not say. MMDetection's schedule is for 8 GPUs; not measured here. On a CPU an iteration of
#           Mask R-CNN is 2.9 times a plain one (docs/results/speed.md).
# Command:  tools/dist_train.sh configs/coco/gradaug_fcos_r50.py 8
#           COCO is where MMDetection expects it, data/coco (a link will do). The backbone starts from torchvision's
#           ResNet-50, which MMDetection downloads.
# Assumed:  what configs/mask_rcnn_gradaug.py assumes; and torchvision's weights and normalisation in place of Caffe's,
#           whose batch norm statistics are folded into weight and bias, so that it cannot be trained on.
_base_ = ['mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py', '../_base_/gradaug_detection.py']

model = dict(
    type='mmgradaug.GradAugDetector',
    detector='mmdet.FCOS',
    gradaug=_base_.gradaug_settings,
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True
    ),
    backbone=dict(
        **_base_.trained_backbone,
        style='pytorch',
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'),
    ),
)
optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))
default_hooks = dict(run_record=dict(type='mmgradaug.RunRecordHook'))
