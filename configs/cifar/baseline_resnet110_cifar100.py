# ResNet-110 on CIFAR-100, the plain baseline.
#
# Paper:    Table 6, "Baseline", CIFAR-100: 72.21 top-1 re-implemented, 72.24 reported (the paper's figures; not yet
#           reproduced with this code).
# Setting:  Section 4.3: "the same as [15]", stochastic depth: 500 epochs, batch 128, lr 0.1 divided by 10 after half
#           and three quarters; final epoch.
# Hardware: stochastic depth's README: one TITAN X, 75 s an epoch, so 10 hours (45,000 images an epoch); not measured
#           here.
# Command:  python tools/train.py configs/cifar/baseline_resnet110_cifar100.py
# Assumed:  shortcuts by 1x1 convolutions where the shape changes, as MMPretrain's blocks have them. Stochastic depth's
#           code [15] trains on 45,000 of the 50,000 images, takes the test error of the epoch with the best validation
#           error, and fills shifts with zeros (after normalisation); here, as in the authors' code, all 50,000, the
#           final epoch, and shifts by reflection.
_base_ = [
    '../_base_/models/resnet110_cifar.py',
    '../_base_/datasets/cifar100.py',
    '../_base_/schedules/cifar_stochastic_depth.py',
    '../_base_/default_runtime.py',
]

model = dict(head=dict(num_classes=100))
