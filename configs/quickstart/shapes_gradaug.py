# A tiny Mask R-CNN on 30 drawn images of shapes with GradAug, for the detection quick start.
#
# Paper:    none; the paper has no such experiment. Small scale: it says nothing about the paper's figures.
# Setting:  ours: that of shapes_baseline.py, in the economy form (n = 1 in every second iteration) with alpha = 0.8,
#           the paper's for CIFAR, and factors in the proportion of ImageNet's {224, 192, 160}; sub-networks learn
#           from the ground truth.
# Measured: 10.9 +- 0.2 box AP, 10.0 +- 0.7 mask AP (mean and deviation of 3 seeds; mmgradaug quickstart shapes
#           --seeds 3). On the same seeds 2.8 and 2.9 above plain training of as many iterations, and 1.1 and 1.3
#           above plain training of as much time (standard errors 0.4 and 0.5).
# Hardware: 2 cores of an AMD EPYC, one training on each; about 290 seconds beside other work.
# Command:  mmgradaug shapes data/shapes
#           python tools/train.py configs/quickstart/shapes_gradaug.py
#           Both, and plain training at equal cost: make quickstart-detection
# Assumed:  what configs/mask_rcnn_gradaug.py assumes.
_base_ = [
    'shapes_baseline.py',
    '../_base_/gradaug.py',
]
model = dict(
    type='mmgradaug.GradAugMaskRCNN',
    gradaug=dict(
        preset='economy',
        min_width=0.8,
        transforms=dict(type='RandomScale', factors=[1.0, 6 / 7, 5 / 7]),
        subnets_learn='ground_truth',
    ),
)
