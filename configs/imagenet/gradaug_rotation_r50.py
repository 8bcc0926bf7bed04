# ResNet-50 + GradAug by random rotation on ImageNet.
#
# Paper:    Table 5, "RandRot", column ResNet: 77.62 top-1 (the paper's figure; not yet reproduced with this code).
#           Baseline there: 76.32; random scale 78.79.
# Setting:  Section 4.3: sub-networks see the batch rotated by one of {0, 90, 180, 270} degrees instead of resized; the
#           rest as configs/gradaug_r50_imagenet.py.
# Hardware: the paper's for GradAug on ImageNet: 8 x 1080 Ti, 61 minutes an epoch, 122 hours, 7145 MB a GPU (Table 2);
#           not measured here.
# Command:  tools/dist_train.sh configs/imagenet/gradaug_rotation_r50.py 8
# Assumed:  one rotation for the whole batch and each sub-network, as the authors' code does with sizes.
_base_ = '../gradaug_r50_imagenet.py'

model = dict(gradaug=dict(transforms=dict(_delete_=True, type='RandomRotate90')))
