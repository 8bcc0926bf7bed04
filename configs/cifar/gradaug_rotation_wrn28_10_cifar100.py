# WideResNet-28-10 + GradAug by random rotation on CIFAR-100.
#
# Paper:    Table 5, "RandRot", column WideResNet: 83.36 top-1
#           (the paper's figure; not yet reproduced with this code). Baseline there: 81.53; GradAug 83.98.
# Setting:  Section 4.3: sub-networks see the batch rotated by one of {0, 90, 180, 270} degrees instead of resized.
# Hardware: the authors' README: 2 GPUs; time not said, not measured here. One by this command.
# Command:  python tools/train.py configs/cifar/gradaug_rotation_wrn28_10_cifar100.py
# Assumed:  one rotation for the whole batch and each sub-network, as the authors' code does with sizes.
_base_ = 'gradaug_wrn28_10_cifar100.py'

model = dict(gradaug=dict(transforms=dict(_delete_=True, type='RandomRotate90')))
