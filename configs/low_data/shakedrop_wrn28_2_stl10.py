# WideResNet-28-2 + ShakeDrop on STL-10 with 1,000 labels.
#
# Paper:    Table 10, "+ ShakeDrop", column STL-10: 66.51 +- 0.99 top-1
#           mean and deviation over 5 splits (the paper's figures; not yet reproduced with this code).
# Setting:  the baseline's, with ShakeDrop, p_L = 0.5, linear over the blocks.
# Hardware: one GPU by this command. Neither the paper nor Oliver et al.'s code says which; time not measured here.
# Command:  python tools/train.py configs/low_data/shakedrop_wrn28_2_stl10.py
#           all of the table: mmgradaug sweep table10 --seeds 5
# Assumed:  a batch norm at the end of each branch, and the rest, as in configs/cifar/shakedrop_wrn28_10_cifar100.py.
_base_ = 'baseline_wrn28_2_stl10.py'

model = dict(
    backbone=dict(norm_at_end=True, regularizers=[dict(type='ShakeDrop', last_drop_prob=0.5)]),
)
