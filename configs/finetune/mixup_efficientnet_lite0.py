# EfficientNet-Lite0 with ImageNet weights, fine-tuned with Mixup on one's own images in class folders.
#
# Paper:    none; Mixup is of arXiv:1710.09412.
# Setting:  ours: that of baseline_efficientnet_lite0.py, with Mixup in every batch.
# Measured: at 64 px, CIFAR-10 with 100 labels, 300 iterations: 41.8 +- 1.8 top-1, plain 42.6 +- 1.4 (5 seeds,
#           docs/when_it_helps.md).
# Hardware: any; an iteration costs what a plain one does.
# Command:  mmgradaug train configs/finetune/mixup_efficientnet_lite0.py \
#               --cfg-options {model.head,data_preprocessor}.num_classes=3
# Assumed:  alpha = 0.2, as the Mixup paper has for ImageNet.
_base_ = 'baseline_efficientnet_lite0.py'

# How many folders there are, as model.head.num_classes.
data_preprocessor = dict(num_classes=2)
model = dict(
    train_cfg=dict(augments=dict(type='Mixup', alpha=0.2)),
    # Mixed batches have soft targets.
    head=dict(loss=dict(use_soft=True)),
)
