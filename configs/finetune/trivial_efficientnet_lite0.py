# EfficientNet-Lite0 with ImageNet weights, fine-tuned with TrivialAugment on one's own images in class folders.
#
# Paper:    none; TrivialAugment is of arXiv:2103.10158.
# Setting:  ours: that of baseline_efficientnet_lite0.py, and one random operation on each image.
# Measured: at 64 px, CIFAR-10 with 1,000 labels, 700 iterations: 64.5 +- 1.3 top-1, without it 65.2 +- 1.3 (3 seeds).
#           With 250 labels, 700 iterations: 55.6 +- 1.6, without it 53.1 +- 1.5; with 100, 300 iterations: 46.4 +-
#           1.3 and 42.6 +- 1.4 (5 seeds). In another setting it gains 2.0 points (0.9, 0.2) with them, and is level
#           on 120 photographs of waste, +0.6 (0.7): docs/when_it_helps.md.
# Hardware: any; an iteration costs what a plain one does.
# Command:  mmgradaug train configs/finetune/trivial_efficientnet_lite0.py --cfg-options model.head.num_classes=3
# Assumed:  as in baseline_efficientnet_lite0.py.
_base_ = 'baseline_efficientnet_lite0.py'

train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='RandomResizedCrop', scale=224, crop_ratio_range=(0.35, 1.0)),
            dict(type='RandomFlip', prob=0.5),
            dict(type='NumpyToPIL', to_rgb=True),
            dict(type='torchvision/TrivialAugmentWide'),
            dict(type='PILToNumpy', to_bgr=True),
            dict(type='PackInputs'),
        ]
    )
)
