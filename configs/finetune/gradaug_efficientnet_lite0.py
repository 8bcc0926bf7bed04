# EfficientNet-Lite0 with ImageNet weights, fine-tuned with GradAug on one's own images in class folders.
#
# Paper:    none; the paper fine-tunes detectors alone (Table 7).
# Setting:  ours: that of baseline_efficientnet_lite0.py, with the paper's n = 3, alpha = 0.9 and sizes of ImageNet.
# Measured: not in this form; see docs/when_it_helps.md.
# Hardware: any; an iteration costs about 2.7 plain ones.
# Command:  mmgradaug sweep configs/finetune/baseline_efficientnet_lite0.py \
#               configs/finetune/gradaug_efficientnet_lite0.py --seeds 3 --equal-cost --work-dir work_dirs/mine
# Assumed:  as in baseline_efficientnet_lite0.py.
_base_ = 'baseline_efficientnet_lite0.py'

# All that GradAug changes.
model = dict(
    type='mmgradaug.GradAugClassifier',
    gradaug=dict(
        num_subnets=3,
        min_width=0.9,
        transforms=dict(type='RandomScale', factors=[1.0, 0.857, 0.714, 0.571]),
    ),
)
custom_hooks = [
    dict(type='mmgradaug.GradAugHook'),
    dict(type='mmgradaug.PretrainedBackboneHook'),
]
model_wrapper_cfg = dict(type='mmgradaug.GradAugDistributedDataParallel')
