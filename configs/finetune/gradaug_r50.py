# ResNet-50 with ImageNet weights, fine-tuned with GradAug on one's own images in class folders.
#
# Paper:    none; the paper fine-tunes detectors alone (Table 7).
# Setting:  ours: that of baseline_r50.py, with the paper's alpha and sizes of ImageNet, and the
#           economy preset.
# Measured: not yet.
# Hardware: a GPU; an iteration costs about 1.3 plain ones.
# Command:  mmgradaug train configs/finetune/gradaug_r50.py --cfg-options model.head.num_classes=3
# Assumed:  as in baseline_efficientnet_lite0.py.
_base_ = 'baseline_r50.py'

# All that GradAug changes.
model = dict(
    type='mmgradaug.GradAugClassifier',
    gradaug=dict(
        # One sub-network in every second iteration. preset='paper', n = 3 in each, was 1.8 to 8.0 points worse with
        # as many operations.
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
