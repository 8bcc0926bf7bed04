# ResNet-110 on CIFAR-10, the plain baseline.
#
# Paper:    Table 6, "Baseline", CIFAR-10: 93.49 top-1 re-implemented, 93.59 reported (the paper's figures; not yet
#           reproduced with this code).
# Setting:  Section 4.3: "the same as [15]", stochastic depth: 500 epochs, batch 128, lr 0.1 divided by 10 after half
#           and three quarters; final epoch.
# Command:  python tools/train.py configs/cifar/baseline_resnet110_cifar10.py
# Assumed:  shortcuts by 1x1 convolutions where the shape changes, as MMPretrain's blocks have them.
_base_ = [
    '../_base_/models/resnet110_cifar.py',
    '../_base_/datasets/cifar10.py',
    '../_base_/schedules/cifar_stochastic_depth.py',
    '../_base_/default_runtime.py',
]

model = dict(head=dict(num_classes=10))
