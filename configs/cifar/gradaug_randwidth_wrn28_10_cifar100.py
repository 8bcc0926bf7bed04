# WideResNet-28-10 on CIFAR-100 with random width alone.
#
# Paper:    Table 4, "RandWidth": 81.74 top-1, 95.56 top-5
#           (the paper's figure; not yet reproduced with this code). Baseline there: 81.53; GradAug 83.98.
# Setting:  Section 4.3: three sub-networks an iteration on the original images. The rest as
#           gradaug_wrn28_10_cifar100.py.
# Hardware: the authors' README: 2 GPUs; time not said, not measured here. One by this command.
# Command:  python tools/train.py configs/cifar/gradaug_randwidth_wrn28_10_cifar100.py
# Assumed:  nothing of its own.
_base_ = 'gradaug_wrn28_10_cifar100.py'

model = dict(gradaug=dict(transforms=dict(_delete_=True, type='Identity')))
