# PyramidNet-200 + ShakeDrop on CIFAR-100.
#
# Paper:    Table 3, "+ ShakeDrop", column PyramidNet-200: 84.57 top-1, 97.08 top-5
#           (the paper's figures; not yet reproduced with this code). Baseline there: 83.49.
# Setting:  the baseline's, with ShakeDrop, p_L = 0.5, linear over the blocks.
# Hardware: the authors' README (as CutMix's): 2 GPUs; time not said, not measured here. One by this command.
# Command:  python tools/train.py configs/cifar/shakedrop_pyramidnet200_cifar100.py
# Assumed:  alpha in [-1, 1] and beta in [0, 1] by element, one gate a batch, as in ShakeDrop's own code. Drop
#           probability from 1 / L * 0.5 to 0.5 over the blocks.
_base_ = 'baseline_pyramidnet200_cifar100.py'

model = dict(
    backbone=dict(regularizers=[dict(type='ShakeDrop', last_drop_prob=0.5)]),
)
