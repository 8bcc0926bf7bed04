# WideResNet-28-2, GradAug-semi, on CIFAR-10 with 250, 1,000 or 4,000 labels.
#
# Paper:    Table 10, "+ GradAug-semi", columns CIFAR-10: 52.95 +- 2.15 (250 labels), 71.74 +- 0.77 (1,000),
#           84.11 +- 0.25 (4,000) top-1, mean and deviation over 5 splits
#           (the paper's figures; not yet reproduced with this code).
# Setting:  GradAug's; sub-networks also learn the full network's output on unlabelled images.
# Hardware: one GPU by this command. Neither the paper nor Oliver et al.'s code says which; time not measured here.
# Command:  python tools/train.py configs/low_data/gradaug_semi_wrn28_2_cifar10.py
#           with --cfg-options train_dataloader.dataset.num_labels=1000 train_dataloader.dataset.split_seed=1 for other
#           numbers and splits; all of the table: mmgradaug sweep table10 --seeds 5
# Assumed:  everything semi-supervised, the paper's supplement being unknown: 50 labelled and 50 unlabelled images a
#           batch (as Oliver et al.), weight 1, no threshold, the same augmentation for both, running statistics
#           of the labelled images alone, soft labels from the full network in training mode. lr 3e-3.
#           Unlabelled are all other images of the 50,000 (Oliver et al.: 45,000 images, the labelled ones among them).
_base_ = 'gradaug_wrn28_2_cifar10.py'

model = dict(
    type='mmgradaug.GradAugSemiClassifier',
    gradaug=dict(unlabelled=dict(weight=1.0, threshold=0.0, move_statistics=False)),
)
train_dataloader = _base_.semi_dataloader
