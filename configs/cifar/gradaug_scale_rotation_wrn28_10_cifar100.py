# WideResNet-28-10 + GradAug by random rotation and scale on CIFAR-100.
#
# Paper:    Table 5, "Scale&Rot", column WideResNet: 84.21 top-1
#           (the paper's figure; not yet reproduced with this code). Baseline there: 81.53; GradAug 83.98.
# Setting:  Section 4.3: "first randomly rotated and then randomly resized".
# Hardware: the authors' README: 2 GPUs; time not said, not measured here. One by this command.
# Command:  python tools/train.py configs/cifar/gradaug_scale_rotation_wrn28_10_cifar100.py
# Assumed:  as gradaug_rotation_wrn28_10_cifar100.py.
_base_ = 'gradaug_wrn28_10_cifar100.py'

model = dict(
    gradaug=dict(
        transforms=dict(
            _delete_=True,
            type='Compose',
            transforms=[
                dict(type='RandomRotate90'),
                dict(type='RandomResize', sizes=[32, 28, 24]),
            ],
        )
    )
)
