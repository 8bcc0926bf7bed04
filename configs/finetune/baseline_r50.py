# ResNet-50 with ImageNet weights, fine-tuned on one's own images in class folders; the plain baseline.
#
# Paper:    none; the paper fine-tunes detectors alone (Table 7).
# Setting:  ours: that of baseline_efficientnet_lite0.py.
# Measured: not yet.
# Hardware: a GPU.
# Command:  mmgradaug train configs/finetune/baseline_r50.py --cfg-options model.head.num_classes=3
#           Another file: model.backbone.init_cfg.checkpoint=PATH, torchvision's, timm's or OpenMMLab's, a
#           GradAug-pretrained one of configs/gradaug_r50_imagenet.py among them.
# Assumed:  as in baseline_efficientnet_lite0.py.
_base_ = 'baseline_efficientnet_lite0.py'

data_preprocessor = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])

model = dict(
    backbone=dict(
        _delete_=True,
        type='ResNet',
        depth=50,
        # 0: the stem is not trained, 1: nor the first stage, ...
        frozen_stages=-1,
        # Downloaded by PyTorch once.
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'),
    ),
    head=dict(in_channels=2048),
)
