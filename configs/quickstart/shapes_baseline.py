# A tiny Mask R-CNN on 30 drawn images of circles, squares and triangles, plain: for the detection quick start.
#
# Paper:    none; the paper has no such experiment. Small scale: it says nothing about the paper's figures.
# Setting:  ours: ResNet-18 with a quarter of the channels, a 32-channel FPN and heads, from scratch, 30 training images
#           of 160x100, 800 iterations of 4, AdamW at 0.002 with a warm-up of 100 iterations and cosine decay, flips.
# Measured: 8.1 +- 1.2 box AP, 7.1 +- 1.3 mask AP, and for as long as GradAug takes (1195 iterations) 9.8 +- 0.7 box AP,
#           8.6 +- 0.3 mask AP (mean and deviation of 3 seeds, each with its own training images;
#           mmgradaug quickstart shapes --seeds 3; how, see docs/results/quickstart_detection.md).
# Hardware: 2 cores of an AMD EPYC, one training on each; about 200 seconds beside other work.
# Command:  mmgradaug shapes data/shapes
#           python tools/train.py configs/quickstart/shapes_baseline.py
# Assumed:  nothing of the paper's. The neck and the mask head have group norm, without which so small a detector learns
#           less in as few iterations.
_base_ = [
    'mmdet::_base_/models/mask-rcnn_r50_fpn.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/default_runtime_detection.py',
]

norm_cfg = dict(type='GN', num_groups=8)
model = dict(
    data_preprocessor=dict(pad_size_divisor=4),
    backbone=dict(
        depth=18,
        stem_channels=16,
        base_channels=16,
        # Batch norms are trained.
        frozen_stages=-1,
        norm_eval=False,
        zero_init_residual=False,
        init_cfg=None,
    ),
    neck=dict(in_channels=[16, 32, 64, 128], out_channels=32, num_outs=4, norm_cfg=norm_cfg),
    # The shapes' sides are 14 to 56 pixels, most of them.
    rpn_head=dict(
        in_channels=32,
        feat_channels=32,
        anchor_generator=dict(scales=[4], strides=[4, 8, 16, 32]),
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(
            out_channels=32,
            featmap_strides=[4, 8, 16],
            finest_scale=16,
            roi_layer=dict(sampling_ratio=1),
        ),
        bbox_head=dict(in_channels=32, fc_out_channels=64, num_classes=3),
        mask_roi_extractor=dict(
            out_channels=32,
            featmap_strides=[4, 8, 16],
            finest_scale=16,
            roi_layer=dict(sampling_ratio=1),
        ),
        mask_head=dict(
            num_convs=2, in_channels=32, conv_out_channels=32, num_classes=3, norm_cfg=norm_cfg
        ),
    ),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=64)),
        rpn_proposal=dict(nms_pre=200, max_per_img=100),
        rcnn=dict(sampler=dict(num=64)),
    ),
    test_cfg=dict(
        rpn=dict(nms_pre=200, max_per_img=100),
        # So low that a barely trained network too finds something to evaluate.
        rcnn=dict(score_thr=0.01, max_per_img=50),
    ),
)

data_root = 'data/shapes'
# The images are small enough as they are.
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale_factor=1.0, keep_ratio=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
# Worker processes would cost more than they save.
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(_delete_=True, type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='mmgradaug.Shapes',
        data_root=data_root,
        num_images=30,
        image_seed=0,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(type='mmgradaug.Shapes', data_root=data_root, pipeline=test_pipeline),
)
val_evaluator = dict(ann_file=f'{data_root}/annotations/instances_val2017.json')
test_dataloader = val_dataloader
test_evaluator = val_evaluator

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=0.002, weight_decay=0.05),
    clip_grad=dict(max_norm=10, norm_type=2),
)
# For another length override max_iters and the cosine's end; val_interval as you like.
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=100, by_epoch=False),
    dict(type='CosineAnnealingLR', begin=0, end=800, by_epoch=False),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=800, val_interval=160)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

default_hooks = dict(
    logger=dict(interval=10, log_metric_by_epoch=False),
    # The last weights alone; on the way a place to go on from.
    checkpoint=dict(by_epoch=False, interval=100, max_keep_ckpts=1),
)
log_processor = dict(by_epoch=False, window_size=10)
