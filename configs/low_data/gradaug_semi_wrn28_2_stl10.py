# WideResNet-28-2, GradAug-semi, on STL-10 with 1,000 labels.
#
# Paper:    Table 10, "+ GradAug-semi", column STL-10: 70.86 +- 0.71 top-1
#           mean and deviation over 5 splits (the paper's figures; not yet reproduced with this code).
# Setting:  GradAug's; sub-networks also learn the full network's output on unlabelled images.
# Hardware: one GPU by this command. Neither the paper nor Oliver et al.'s code says which; time not measured here.
# Command:  python tools/train.py configs/low_data/gradaug_semi_wrn28_2_stl10.py
#           all of the table: mmgradaug sweep table10 --seeds 5
# Assumed:  everything semi-supervised, the paper's supplement being unknown: 50 labelled and 50 unlabelled images a
#           batch (as Oliver et al.), weight 1, no threshold, the same augmentation for both, running statistics
#           of the labelled images alone, soft labels from the full network in training mode. lr 3e-3.
_base_ = 'gradaug_wrn28_2_stl10.py'

model = dict(
    type='mmgradaug.GradAugSemiClassifier',
    gradaug=dict(unlabelled=dict(weight=1.0, threshold=0.0, move_statistics=False)),
)
train_dataloader = _base_.semi_dataloader
