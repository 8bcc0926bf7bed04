# WideResNet-28-2 on STL-10 with 1,000 labels, the plain baseline.
#
# Paper:    Table 10, "WideResNet-28-2", column STL-10: 67.62 +- 1.06 top-1
#           mean and deviation over 5 splits (the paper's figures; not yet reproduced with this code).
# Setting:  Section 4.6, after Oliver et al. (arXiv:1804.09170): Adam, lr 3e-3, 500,000 iterations of 100 labelled
#           images; final weights. On one GPU.
# Hardware: one GPU by this command. Neither the paper nor Oliver et al.'s code says which; time not measured here.
# Command:  python tools/train.py configs/low_data/baseline_wrn28_2_stl10.py
#           all of the table: mmgradaug sweep table10 --seeds 5
# Assumed:  the paper says "the same hyperparameter settings in [37]" and no more. Pixels are normalised by mean and
#           deviation, not whitened.
_base_ = [
    '../_base_/models/wide_resnet28_2.py',
    '../_base_/datasets/stl10_low_data.py',
    '../_base_/schedules/low_data.py',
]
