# PyramidNet-200 + CutMix + ShakeDrop on CIFAR-100.
#
# Paper:    Table 3, "+ CutMix + ShakeDrop", column PyramidNet-200: 85.93 top-1, 97.63 top-5
#           (the paper's figures; not yet reproduced with this code). Baseline there: 83.49.
# Setting:  CutMix in half of the batches, and ShakeDrop.
# Hardware: the authors' README (as CutMix's): 2 GPUs; time not said, not measured here. One by this command.
# Command:  python tools/train.py configs/cifar/cutmix_shakedrop_pyramidnet200_cifar100.py
# Assumed:  what cutmix_pyramidnet200_cifar100.py and shakedrop_pyramidnet200_cifar100.py assume.
_base_ = 'cutmix_pyramidnet200_cifar100.py'

model = dict(
    backbone=dict(regularizers=[dict(type='ShakeDrop', last_drop_prob=0.5)]),
)
