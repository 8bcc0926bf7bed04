# EfficientNet-Lite0 with ImageNet weights, fine-tuned with GradAug as the paper has it, three sub-networks in each
# iteration, on one's own images in class folders.
#
# Paper:    none; the paper fine-tunes detectors alone (Table 7).
# Setting:  ours: that of gradaug_efficientnet_lite0.py, with n = 3.
# Measured: not yet.
# Hardware: any; what an iteration costs: mmgradaug cost with this config.
# Command:  mmgradaug train configs/finetune/gradaug_paper_efficientnet_lite0.py --cfg-options model.head.num_classes=3
# Assumed:  as in gradaug_efficientnet_lite0.py.
_base_ = 'gradaug_efficientnet_lite0.py'

model = dict(gradaug=dict(preset='paper'))
