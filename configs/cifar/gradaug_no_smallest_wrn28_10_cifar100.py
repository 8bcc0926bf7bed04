# WideResNet-28-10 + GradAug on CIFAR-100, all widths drawn, the smallest one not always among them.
#
# Paper:    Section 3.1: the effect of its two training tricks is in the supplement, which could not be found, so no
#           figure is known. With both tricks 83.98 top-1, 96.17 top-5 (Table 3).
# Setting:  as gradaug_wrn28_10_cifar100.py, without the second trick: three widths uniform on [0.8, 1].
# Hardware: the authors' README: 2 GPUs for GradAug; time not said, not measured here. One by this command.
# Command:  python tools/train.py configs/cifar/gradaug_no_smallest_wrn28_10_cifar100.py
#           All four combinations: mmgradaug sweep tricks
# Assumed:  what gradaug_wrn28_10_cifar100.py assumes, and that the ablation was of this network.
_base_ = 'gradaug_wrn28_10_cifar100.py'

model = dict(gradaug=dict(always_smallest=False))
