# EfficientNet-Lite0 with ImageNet weights, fine-tuned with GradAug as the paper has it, three sub-networks in each
# iteration, on one's own images in class folders.
#
# Paper:    none; the paper fine-tunes detectors alone (Table 7).
# Setting:  ours: that of gradaug_efficientnet_lite0.py, with n = 3.
# Measured: at 64 px, CIFAR-10 with 100 labels, 300 iterations: 44.0 +- 1.8 top-1, plain of as much time (1,361
#           iterations) 45.3 +- 0.8 (3 seeds, docs/when_it_helps.md).
# Hardware: any; an iteration takes 4.5 times as long as a plain one on a CPU.
# Command:  mmgradaug train configs/finetune/gradaug_paper_efficientnet_lite0.py --cfg-options model.head.num_classes=3
# Assumed:  as in gradaug_efficientnet_lite0.py.
_base_ = 'gradaug_efficientnet_lite0.py'

model = dict(gradaug=dict(preset='paper'))
