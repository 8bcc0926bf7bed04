# ResNet-110 with stochastic depth on CIFAR-100.
#
# Paper:    Table 6, "StochDepth", CIFAR-100: 75.2 top-1 re-implemented, 75.02 reported (the paper's figures; not yet
#           reproduced with this code). Baseline there: 72.21.
# Setting:  the baseline's, branches surviving with probability 1 to p_L = 0.5, linear over the blocks.
# Hardware: stochastic depth's README: one TITAN X, 60 s an epoch, so 8 hours (45,000 images an epoch); not measured
#           here.
# Command:  python tools/train.py configs/cifar/stochdepth_resnet110_cifar100.py
# Assumed:  MMPretrain's drop_path_rate: branches are dropped by image and rescaled in training, where stochastic
#           depth's own code drops them by batch and rescales in the test. It counts the blocks from 0 instead of from
#           1. Stochastic depth's code [15] trains on 45,000 of the 50,000 images, takes the test error of the epoch
#           with the best validation error, and fills shifts with zeros (after normalisation); here, as in the authors'
#           code, all 50,000, the final epoch, and shifts by reflection.
_base_ = 'baseline_resnet110_cifar100.py'

model = dict(backbone=dict(drop_path_rate=0.5))
