# WideResNet-28-10 + Cutout on CIFAR-100.
#
# Paper:    none; a baseline of Table 1 for CIFAR. The Cutout paper has 81.59 (its error of 18.41, another schedule).
# Setting:  the baseline's, with a hole of 8 x 8 pixels around any pixel of every image, cut off at the edges, filled
#           with the mean.
# Hardware: the authors' README: 2 GPUs; time not said, not measured here. One by this command.
# Command:  python tools/train.py configs/cifar/cutout_wrn28_10_cifar100.py
# Assumed:  the size for CIFAR-100 is the Cutout paper's; it has 16 for CIFAR-10, and the CutMix paper 16 for
#           CIFAR-100. (mmgradaug's own Cutout: mmcv's makes holes that are 8% too large.)
_base_ = 'baseline_wrn28_10_cifar100.py'

train_pipeline = [
    dict(type='RandomCrop', crop_size=32, padding=4, padding_mode='reflect'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='mmgradaug.Cutout', shape=8, pad_val=(125, 123, 114), prob=1.0),
    dict(type='PackInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
