# Mask R-CNN, ResNet-50-FPN, on COCO: the plain baseline.
#
# Paper:    Table 7, "ResNet-50 (Baseline)": 36.5 box AP, 33.3 mask AP (the paper's figures; not yet reproduced with
#           this code).
# Setting:  Section 4.4: MMDetection's Mask R-CNN with FPN, 1x schedule, image resolution 1000x600. Backbone: ImageNet
#           baseline, 76.3 top-1.
# Hardware: the paper does not say. MMDetection's 1x schedule is for 8 GPUs.
# Command:  tools/dist_train.sh configs/coco/baseline_mask_rcnn_r50.py 8
#           It starts from work_dirs/baseline_r50/epoch_120.pth. Another ResNet-50 (a checkpoint, or torchvision's):
#           --cfg-options model.backbone.init_cfg.checkpoint=torchvision://resnet50
# Assumed:  all that the paper does not say is MMDetection's default: 1x is 12 epochs, 8 GPUs with 2 images each, lr
#           0.02; images keep their aspect within 1000x600; stage 1 and all batch norms of the backbone are frozen;
#           train2017 and val2017.
_base_ = [
    'mmdet::_base_/models/mask-rcnn_r50_fpn.py',
    'mmdet::_base_/schedules/schedule_1x.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/default_runtime_detection.py',
]

model = dict(
    backbone=dict(
        init_cfg=dict(type='Pretrained', checkpoint='work_dirs/baseline_r50/epoch_120.pth')
    )
)
custom_hooks = [
    dict(type='mmgradaug.PretrainedBackboneHook', produced_by='configs/imagenet/baseline_r50.py'),
]
