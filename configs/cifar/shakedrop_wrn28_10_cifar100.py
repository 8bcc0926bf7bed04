# WideResNet-28-10 + ShakeDrop on CIFAR-100.
#
# Paper:    Table 3, "+ ShakeDrop", column WideResNet-28-10: 81.65 top-1, 96.19 top-5
#           (the paper's figures; not yet reproduced with this code). Baseline there: 81.53.
# Setting:  the baseline's, with ShakeDrop, p_L = 0.5, linear over the blocks.
# Hardware: the authors' README: 2 GPUs; time not said, not measured here. One by this command.
# Command:  python tools/train.py configs/cifar/shakedrop_wrn28_10_cifar100.py
# Assumed:  alpha in [-1, 1] and beta in [0, 1] by element, one gate a batch, as in ShakeDrop's own code. WideResNet
#           gets the batch norm at the end of each branch that ShakeDrop needs (its Table 5b); without it, the network
#           gets worse, as ShakeDrop's author says.
_base_ = 'baseline_wrn28_10_cifar100.py'

model = dict(
    backbone=dict(norm_at_end=True, regularizers=[dict(type='ShakeDrop', last_drop_prob=0.5)]),
)
