# WideResNet-28-10 on CIFAR-100 with random scale alone.
#
# Paper:    Table 4, "RandScale": 82.27 top-1, 96.16 top-5
#           (the paper's figure; not yet reproduced with this code). Baseline there: 81.53; GradAug 83.98.
# Setting:  Section 4.3: no sub-networks are sampled, "GradAug becomes multi-scale training": three passes at full
#           width on scaled images. The rest as gradaug_wrn28_10_cifar100.py.
# Hardware: the authors' README: 2 GPUs; time not said, not measured here. One by this command.
# Command:  python tools/train.py configs/cifar/gradaug_randscale_wrn28_10_cifar100.py
# Assumed:  the passes learn soft labels, as sub-networks do; the paper does not say.
_base_ = 'gradaug_wrn28_10_cifar100.py'

model = dict(gradaug=dict(min_width=1.0))
