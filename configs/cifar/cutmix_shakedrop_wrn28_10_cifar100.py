# WideResNet-28-10 + CutMix + ShakeDrop on CIFAR-100.
#
# Paper:    Table 3, "+ CutMix + ShakeDrop", column WideResNet-28-10: 81.64 top-1, 96.46 top-5
#           (the paper's figures; not yet reproduced with this code). Baseline there: 81.53.
# Setting:  CutMix in half of the batches, and ShakeDrop.
# Hardware: the authors' README (as CutMix's): 2 GPUs; time not said, not measured here. One by this command.
# Command:  python tools/train.py configs/cifar/cutmix_shakedrop_wrn28_10_cifar100.py
# Assumed:  what cutmix_wrn28_10_cifar100.py and shakedrop_wrn28_10_cifar100.py assume.
_base_ = 'cutmix_wrn28_10_cifar100.py'

model = dict(
    backbone=dict(norm_at_end=True, regularizers=[dict(type='ShakeDrop', last_drop_prob=0.5)]),
)
