# WideResNet-28-10 + GradAug on CIFAR-100.
#
# Paper:    Table 3, "+ GradAug (Ours)", column WideResNet-28-10: 83.98 top-1, 96.17 top-5
#           (the paper's figures; not yet reproduced with this code). Baseline there: 81.53.
# Setting:  Section 4.2: the baseline's, with n = 3, alpha = 0.8, random scale {32, 28, 24}; final epoch.
# Hardware: the authors' README: 2 GPUs; time not said, not measured here. One by this command.
# Command:  python tools/train.py configs/cifar/gradaug_wrn28_10_cifar100.py
# Assumed:  what configs/gradaug_r50_imagenet.py assumes: resizing, soft-label loss.
_base_ = ['baseline_wrn28_10_cifar100.py', '../_base_/gradaug.py']

model = dict(
    type='mmgradaug.GradAugClassifier',
    gradaug=dict(
        num_subnets=3,
        min_width=0.8,
        transforms=dict(type='RandomResize', sizes=[32, 28, 24]),
    ),
)
