# ResNet-50 + GradAug by random rotation and scale on ImageNet.
#
# Paper:    Table 5, "Scale&Rot", column ResNet: 78.66 top-1 (the paper's figure; not yet reproduced with this code).
#           Baseline there: 76.32; random scale alone 78.79.
# Setting:  Section 4.3: "the input images are first randomly rotated and then randomly resized"; the rest as
#           configs/gradaug_r50_imagenet.py.
# Hardware: the paper's for GradAug on ImageNet: 8 x 1080 Ti, 61 minutes an epoch, 122 hours, 7145 MB a GPU (Table 2);
#           not measured here.
# Command:  tools/dist_train.sh configs/imagenet/gradaug_scale_rotation_r50.py 8
# Assumed:  one rotation for the whole batch and each sub-network, as the authors' code does with sizes.
_base_ = '../gradaug_r50_imagenet.py'

model = dict(
    gradaug=dict(
        transforms=dict(
            _delete_=True,
            type='Compose',
            transforms=[
                dict(type='RandomRotate90'),
                dict(type='RandomResize', sizes=[224, 192, 160, 128]),
            ],
        )
    )
)
