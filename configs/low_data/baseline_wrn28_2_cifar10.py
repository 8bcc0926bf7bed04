# WideResNet-28-2 on CIFAR-10 with 250, 1,000 or 4,000 labels, the plain baseline.
#
# Paper:    Table 10, "WideResNet-28-2", columns CIFAR-10: 45.23 +- 1.01 (250 labels), 64.72 +- 1.18 (1,000),
#           80.17 +- 0.68 (4,000) top-1, mean and deviation over 5 splits
#           (the paper's figures; not yet reproduced with this code).
# Setting:  Section 4.6, after Oliver et al. (arXiv:1804.09170): Adam, lr 3e-3, 500,000 iterations of 100 labelled
#           images; final weights. On one GPU.
# Hardware: one GPU by this command. Neither the paper nor Oliver et al.'s code says which; time not measured here.
# Command:  python tools/train.py configs/low_data/baseline_wrn28_2_cifar10.py
#           with --cfg-options train_dataloader.dataset.num_labels=1000 train_dataloader.dataset.split_seed=1 for other
#           numbers and splits; all of the table: mmgradaug sweep table10 --seeds 5
# Assumed:  the paper says "the same hyperparameter settings in [37]" and no more. Pixels are normalised by mean and
#           deviation, not whitened.
_base_ = [
    '../_base_/models/wide_resnet28_2.py',
    '../_base_/datasets/cifar10_low_data.py',
    '../_base_/schedules/low_data.py',
]
