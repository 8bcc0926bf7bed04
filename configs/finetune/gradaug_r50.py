# ResNet-50 with ImageNet weights, fine-tuned with GradAug on one's own images in class folders.
#
# Paper:    none; the paper fine-tunes detectors alone (Table 7).
# Setting:  ours: that of baseline_r50.py, with the paper's alpha and sizes of ImageNet, and the
#           economy preset.
# Measured: not yet.
# Hardware: a GPU; what an iteration costs: mmgradaug cost with this config.
# Command:  mmgradaug train configs/finetune/gradaug_r50.py --cfg-options model.head.num_classes=3
# Assumed:  as in baseline_efficientnet_lite0.py.
_base_ = 'baseline_r50.py'

# All that GradAug changes.
model = dict(
    type='mmgradaug.GradAugClassifier',
    gradaug=dict(
        # One sub-network in every second iteration. preset='paper', n = 3 in each, was 1.7 (0.8) to 8.7 (0.4) points
        # worse with as many operations (EfficientNet-Lite0, in brackets the standard errors).
        preset='economy',
        min_width=0.9,
        transforms=dict(type='RandomScale', factors=[1.0, 0.857, 0.714, 0.571]),
    ),
)
custom_hooks = [
    dict(type='mmgradaug.GradAugHook'),
    dict(type='mmgradaug.PretrainedBackboneHook'),
]
model_wrapper_cfg = dict(type='mmgradaug.GradAugDistributedDataParallel')
