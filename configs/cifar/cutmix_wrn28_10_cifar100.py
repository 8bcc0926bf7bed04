# WideResNet-28-10 + CutMix on CIFAR-100.
#
# Paper:    Table 3, "+ CutMix", column WideResNet-28-10: 84.08 top-1, 96.28 top-5
#           (the paper's figures; not yet reproduced with this code). Baseline there: 81.53.
# Setting:  the baseline's, with CutMix in half of the batches.
# Hardware: the authors' README (as CutMix's): 2 GPUs; time not said, not measured here. One by this command.
# Command:  python tools/train.py configs/cifar/cutmix_wrn28_10_cifar100.py
# Assumed:  alpha = 1 and p = 0.5, as in the CutMix paper's code for CIFAR.
_base_ = 'baseline_wrn28_10_cifar100.py'

model = dict(
    train_cfg=dict(augments=dict(type='CutMix', alpha=1.0), probs=0.5),
    # Mixed batches have soft targets.
    head=dict(loss=dict(use_soft=True)),
)
