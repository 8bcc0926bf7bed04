# WideResNet-28-2 + GradAug on STL-10 with 1,000 labels.
#
# Paper:    Table 10, "+ GradAug", column STL-10: 70.42 +- 0.81 top-1
#           mean and deviation over 5 splits (the paper's figures; not yet reproduced with this code).
# Setting:  the baseline's, with n = 3, alpha = 0.8 and random scale.
# Hardware: one GPU by this command. Neither the paper nor Oliver et al.'s code says which; time not measured here.
# Command:  python tools/train.py configs/low_data/gradaug_wrn28_2_stl10.py
#           all of the table: mmgradaug sweep table10 --seeds 5
# Assumed:  n, alpha and scales {96, 84, 72}: Section 4.2's n and alpha, its scales in proportion.
#           The paper does not say them here.
_base_ = ['baseline_wrn28_2_stl10.py', '../_base_/gradaug.py']

model = dict(
    type='mmgradaug.GradAugClassifier',
    gradaug=dict(
        num_subnets=3,
        min_width=0.8,
        transforms=dict(type='RandomResize', sizes=[96, 84, 72]),
    ),
)
