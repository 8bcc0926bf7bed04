# WideResNet-28-2 + GradAug on CIFAR-10 with 250, 1,000 or 4,000 labels.
#
# Paper:    Table 10, "+ GradAug", columns CIFAR-10: 50.11 +- 1.21 (250 labels), 70.39 +- 0.82 (1,000),
#           83.69 +- 0.51 (4,000) top-1, mean and deviation over 5 splits
#           (the paper's figures; not yet reproduced with this code).
# Setting:  the baseline's, with n = 3, alpha = 0.8 and random scale.
# Hardware: one GPU by this command. Neither the paper nor Oliver et al.'s code says which; time not measured here.
# Command:  python tools/train.py configs/low_data/gradaug_wrn28_2_cifar10.py
#           with --cfg-options train_dataloader.dataset.num_labels=1000 train_dataloader.dataset.split_seed=1 for other
#           numbers and splits; all of the table: mmgradaug sweep table10 --seeds 5
# Assumed:  n, alpha and scales {32, 28, 24} of Section 4.2.
#           The paper does not say them here.
_base_ = ['baseline_wrn28_2_cifar10.py', '../_base_/gradaug.py']

model = dict(
    type='mmgradaug.GradAugClassifier',
    gradaug=dict(
        num_subnets=3,
        min_width=0.8,
        transforms=dict(type='RandomResize', sizes=[32, 28, 24]),
    ),
)
