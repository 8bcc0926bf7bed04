# WideResNet-28-10 + Mixup on CIFAR-100.
#
# Paper:    Table 3, "+ Mixup", column WideResNet-28-10: 82.5 top-1
#           (the paper's figures; not yet reproduced with this code). Baseline there: 81.53.
# Setting:  the baseline's, with Mixup in every batch.
# Hardware: the authors' README: 2 GPUs; time not said, not measured here. One by this command.
# Command:  python tools/train.py configs/cifar/mixup_wrn28_10_cifar100.py
# Assumed:  alpha = 1, as in the Mixup paper's code for CIFAR; the paper does not say.
_base_ = 'baseline_wrn28_10_cifar100.py'

model = dict(
    train_cfg=dict(augments=dict(type='Mixup', alpha=1.0)),
    # Mixed batches have soft targets.
    head=dict(loss=dict(use_soft=True)),
)
