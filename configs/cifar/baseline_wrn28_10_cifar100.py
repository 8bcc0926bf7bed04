# WideResNet-28-10 on CIFAR-100, the plain baseline.
#
# Paper:    Table 3, "Baseline", column WideResNet-28-10: 81.53 top-1, 95.59 top-5
#           (the paper's figures; not yet reproduced with this code).
# Setting:  Section 4.2: 200 epochs, batch 128, lr 0.1 cosine, weight decay 5e-4; final epoch.
# Hardware: the authors' README: 2 GPUs; time not said, not measured here. One by this command.
# Command:  python tools/train.py configs/cifar/baseline_wrn28_10_cifar100.py
# Assumed:  what _base_ says of augmentation and optimizer.
_base_ = [
    '../_base_/models/wide_resnet28_10.py',
    '../_base_/datasets/cifar100.py',
    '../_base_/schedules/cifar_wide_resnet.py',
    '../_base_/default_runtime.py',
]

model = dict(head=dict(num_classes=100))
