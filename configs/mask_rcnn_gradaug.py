# Mask R-CNN, ResNet-50-FPN, trained on COCO with GradAug, from a GradAug-pretrained backbone.
#
# Paper:    Table 7, "GradAug": 38.2 box AP, 35.4 mask AP (the paper's figures; not yet reproduced with this
#           code). Baseline there: 36.5 / 33.3; GradAug-pretrained alone: 37.7 / 34.5.
# Setting:  Section 4.4: "the training procedure of GradAug can be directly applied to the detection
#           framework";
#           MMDetection's Mask R-CNN with FPN, 1x schedule, image resolution 1000x600. Everything else is in a
#           supplement that could not be found.
# Hardware: the paper does not say. MMDetection's 1x schedule is for 8 GPUs.
# Command:  tools/dist_train.sh configs/mask_rcnn_gradaug.py 8
#           mim train mmdet configs/mask_rcnn_gradaug.py --launcher none --gpus 1
#           It starts from work_dirs/gradaug_r50_imagenet/epoch_120.pth; another checkpoint:
#           --cfg-options model.backbone.init_cfg.checkpoint=PATH
# Assumed:  - What configs/coco/baseline_mask_rcnn_r50.py assumes of schedule, image size and split.
#           - n = 3, alpha = 0.9 as on ImageNet, and its sizes {224, 192, 160, 128} as factors: 1000x600, 857x514,
#             714x429, 571x343.
#           - The backbone is narrowed, FPN and heads give all of their outputs (the first author, of a sister method).
#           - Sub-networks learn from the ground truth: the simplest reading of "directly applied", since it needs no
#             decision on how outputs of detectors are compared. The other reading, soft labels of the full network:
#             --cfg-options model.gradaug.subnets_learn=soft_labels
#           - Batch norms are trained, and synchronised since a GPU has 2 images only, nothing is frozen (the first
#             author, of a sister method: "you should not fix BN and use a large batch size if possible").
#           - Gradients are clipped at norm 35 (MMDetection's customary value), for four losses add up.
_base_ = [
    'mmdet::_base_/models/mask-rcnn_r50_fpn.py',
    'mmdet::_base_/schedules/schedule_1x.py',
    '_base_/datasets/coco_instance.py',
    '_base_/default_runtime_detection.py',
    '_base_/gradaug.py',
]

model = dict(
    type='mmgradaug.GradAugMaskRCNN',
    gradaug=dict(
        num_subnets=3,
        min_width=0.9,
        transforms=dict(type='RandomScale', factors=[1.0, 192 / 224, 160 / 224, 128 / 224]),
        subnets_learn='ground_truth',
    ),
    backbone=dict(
        frozen_stages=-1,
        norm_eval=False,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        init_cfg=dict(type='Pretrained', checkpoint='work_dirs/gradaug_r50_imagenet/epoch_120.pth'),
    ),
)
optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))
custom_hooks = [
    dict(type='mmgradaug.GradAugHook'),
    dict(type='mmgradaug.PretrainedBackboneHook', produced_by='configs/gradaug_r50_imagenet.py'),
]
