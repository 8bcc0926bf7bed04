# A small ResNet on 100 labelled digits, the plain baseline of the quick start.
#
# Paper:    none; the paper has no such experiment. Small scale: it says nothing about the paper's figures.
# Setting:  ours: 10 labels a class, 797 test images, 16 px, no augmentation, batch 25, 200 iterations, lr 0.1 cosine.
# Measured: 86.8 +- 3.0 top-1, and 88.3 +- 3.7 in 730 iterations, as long as digits_gradaug.py takes (mean and
#           deviation of 10 seeds, each with its own labels; mmgradaug quickstart --seeds 10).
# Hardware: 2 cores of an AMD EPYC; 4 seconds and 8 to start, 1.0 GB of memory, nearly all of it libraries.
# Command:  python tools/train.py configs/quickstart/digits_baseline.py
#           Another seed: --cfg-options randomness.seed=1 train_dataloader.dataset.label_seed=1
# Assumed:  lr 0.1 is the best of {0.05, 0.1, 0.2} for this network, in 200 iterations and in 740 about as good as 0.2
#           (3 to 5 seeds; 83.6, 88.3, 87.7 and 86.4, 88.8, 88.9). Batch 10 suits the longer training better: 90.7 at
#           lr 0.05, where GradAug has 92.7, and 90.4 at lr 0.1, where GradAug has 89.6 (5 seeds).
_base_ = [
    '../_base_/datasets/digits.py',
    '../_base_/default_runtime.py',
]

model = dict(
    type='ImageClassifier',
    # The first three stages of ResNet-18 in its CIFAR form: 175,000 parameters.
    backbone=dict(
        type='ResNet_CIFAR',
        depth=18,
        num_stages=3,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        out_indices=(2,),
        stem_channels=16,
        base_channels=16,
        zero_init_residual=False,
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=64,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
        topk=(1,),
    ),
)

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True),
)
# For another length override max_iters and end; val_interval as you like.
param_scheduler = dict(type='CosineAnnealingLR', begin=0, end=200, by_epoch=False)
train_cfg = dict(type='IterBasedTrainLoop', max_iters=200, val_interval=20)
val_cfg = dict()
test_cfg = dict()

default_hooks = dict(
    logger=dict(interval=10, log_metric_by_epoch=False),
    # The last weights alone; on the way a place to go on from.
    checkpoint=dict(by_epoch=False, interval=50, max_keep_ckpts=1),
)
log_processor = dict(by_epoch=False, window_size=10)
