# A small ResNet on 100 labelled digits with GradAug, for the quick start.
#
# Paper:    none; the paper has no such experiment. Small scale: it says nothing about the paper's figures.
# Setting:  ours: that of digits_baseline.py, with the paper's n = 3 and alpha = 0.8 of CIFAR (Section 4.2) and sizes
#           in the proportion of its {32, 28, 24}.
# Measured: 91.5 +- 2.1 top-1 (mean and deviation of 10 seeds, each with its own labels; mmgradaug quickstart
#           --seeds 10). On the same seeds 3.2 points above plain training of the same length in time, standard
#           error 0.9, better with 9 of 10. Not so in every setting: see digits_baseline.py for batch 10.
# Hardware: 2 cores of an AMD EPYC; 14 seconds and 8 to start, 1.1 GB of memory, nearly all of it libraries. An
#           iteration takes 3.4 to 4.2 times as long as a plain one (five measurements): more than on larger networks,
#           since layers this small take hardly less time for fewer channels and pixels.
# Command:  python tools/train.py configs/quickstart/digits_gradaug.py
#           Both, and plain training at equal cost: make quickstart
# Assumed:  what configs/gradaug_r50_imagenet.py assumes: resizing, soft-label loss.
_base_ = [
    'digits_baseline.py',
    '../_base_/gradaug.py',
]

# All that GradAug changes.
model = dict(
    type='mmgradaug.GradAugClassifier',
    gradaug=dict(
        num_subnets=3,
        min_width=0.8,
        transforms=dict(type='RandomResize', sizes=[16, 14, 12]),
    ),
)
