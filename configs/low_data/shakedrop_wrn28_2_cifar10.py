# WideResNet-28-2 + ShakeDrop on CIFAR-10 with 250, 1,000 or 4,000 labels.
#
# Paper:    Table 10, "+ ShakeDrop", columns CIFAR-10: 42.01 +- 1.94 (250 labels), 63.11 +- 1.22 (1,000),
#           79.62 +- 0.77 (4,000) top-1, mean and deviation over 5 splits
#           (the paper's figures; not yet reproduced with this code).
# Setting:  the baseline's, with ShakeDrop, p_L = 0.5, linear over the blocks.
# Hardware: one GPU by this command. Neither the paper nor Oliver et al.'s code says which; time not measured here.
# Command:  python tools/train.py configs/low_data/shakedrop_wrn28_2_cifar10.py
#           with --cfg-options train_dataloader.dataset.num_labels=1000 train_dataloader.dataset.split_seed=1 for other
#           numbers and splits; all of the table: mmgradaug sweep table10 --seeds 5
# Assumed:  a batch norm at the end of each branch, and the rest, as in configs/cifar/shakedrop_wrn28_10_cifar100.py.
_base_ = 'baseline_wrn28_2_cifar10.py'

model = dict(
    backbone=dict(norm_at_end=True, regularizers=[dict(type='ShakeDrop', last_drop_prob=0.5)]),
)
