# WideResNet-28-10 + GradAug on CIFAR-100, sub-networks learning from labels instead of soft labels.
#
# Paper:    Section 3.1: the effect of its two training tricks is in the supplement, which could not be found, so no
#           figure is known. With both tricks 83.98 top-1, 96.17 top-5 (Table 3).
# Setting:  as gradaug_wrn28_10_cifar100.py, without the first trick: sub-networks have the loss of the full network.
# Hardware: the authors' README: 2 GPUs for GradAug; time not said, not measured here. One by this command.
# Command:  python tools/train.py configs/cifar/gradaug_no_soft_labels_wrn28_10_cifar100.py
#           All four combinations: mmgradaug sweep tricks
# Assumed:  what gradaug_wrn28_10_cifar100.py assumes, and that the ablation was of this network.
_base_ = 'gradaug_wrn28_10_cifar100.py'

model = dict(gradaug=dict(soft_labels=False))
