# ResNet-110 + GradAug by random depth on CIFAR-10.
#
# Paper:    Table 6, "GradAug", CIFAR-10: 94.85 top-1 (the paper's figure; not yet reproduced with this code).
#           Baseline there: 93.49; stochastic depth 94.29.
# Setting:  Section 4.3: sub-networks leave out residual blocks, survival 1 to p_L, linear; random scale {32, 28, 24};
#           the full network has all blocks. BN statistics move in the full pass alone (Section 3.1).
# Hardware: the authors' README: 2 GPUs; time not said, not measured here. One by this command. Of plain training
#           stochastic depth's README has 75 s an epoch on one TITAN X.
# Command:  python tools/train.py configs/cifar/gradaug_resnet110_cifar10.py
# Assumed:  n = 3; p_L = 0.5 as in stochastic depth. The authors' code differs: 200 epochs of cosine decay, p_L = 0.8,
#           and sub-networks move the BN statistics too; its README has 95.77 on CIFAR-10 and 77.63 on CIFAR-100.
#           Stochastic depth's code [15] trains on 45,000 of the 50,000 images, takes the test error of the epoch with
#           the best validation error, and fills shifts with zeros (after normalisation); here, as in the authors'
#           code, all 50,000, the final epoch, and shifts by reflection.
_base_ = ['baseline_resnet110_cifar10.py', '../_base_/gradaug.py']

model = dict(
    type='mmgradaug.GradAugClassifier',
    gradaug=dict(
        num_subnets=3,
        min_width=1.0,
        survival_prob=0.5,
        transforms=dict(type='RandomResize', sizes=[32, 28, 24]),
    ),
)
