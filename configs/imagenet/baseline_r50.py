# ResNet-50 on ImageNet, the plain baseline.
#
# Paper:    Table 1, "ResNet-50": 76.32 top-1, 92.95 top-5 (the paper's figures, which are the CutMix paper's, of 300
#           epochs: baseline_300e_r50.py has that schedule; not yet reproduced with this code). Table 2, of the Mixup
#           paper: 76.5 after 90 epochs, 76.4 after 200.
# Setting:  GradAug's schedule and augmentation without GradAug: 120 epochs, total batch 512, lr 0.2 cosine.
# Hardware: the paper's: 8 x 1080 Ti, 22 minutes an epoch, 6973 MB a GPU (Table 2).
# Command:  tools/dist_train.sh configs/imagenet/baseline_r50.py 8
# Assumed:  the paper does not say that it trained a baseline of its own. 120 epochs are chosen, so that it differs
#           from configs/gradaug_r50_imagenet.py in GradAug alone; no figure of the paper belongs to it.
_base_ = [
    '../_base_/models/resnet50.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/imagenet_120e.py',
    '../_base_/default_runtime.py',
]
