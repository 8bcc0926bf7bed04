# EfficientNet-Lite0 with ImageNet weights, fine-tuned with CutMix on one's own images in class folders.
#
# Paper:    none; CutMix is of arXiv:1905.04899.
# Setting:  ours: that of baseline_efficientnet_lite0.py, with CutMix in half of the batches.
# Measured: at 64 px, CIFAR-10 with 100 labels, 300 iterations: 41.6 +- 1.4 top-1, plain 42.6 +- 1.4 (5 seeds,
#           docs/when_it_helps.md).
# Hardware: any; an iteration costs what a plain one does.
# Command:  mmgradaug train configs/finetune/cutmix_efficientnet_lite0.py \
#               --cfg-options {model.head,data_preprocessor}.num_classes=3
# Assumed:  alpha = 1 and p = 0.5, as in the CutMix paper's code for CIFAR.
_base_ = 'baseline_efficientnet_lite0.py'

# How many folders there are, as model.head.num_classes.
data_preprocessor = dict(num_classes=2)
model = dict(
    train_cfg=dict(augments=dict(type='CutMix', alpha=1.0), probs=0.5),
    # Mixed batches have soft targets.
    head=dict(loss=dict(use_soft=True)),
)
