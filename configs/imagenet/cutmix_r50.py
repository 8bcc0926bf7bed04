# ResNet-50 + CutMix on ImageNet; also the backbone of configs/coco/cutmix_pretrained_mask_rcnn_r50.py.
#
# Paper:    Table 1, "ResNet-50 + CutMix": 78.60 top-1, 94.08 top-5 (the paper's figures, which are the CutMix paper's,
#           of its best epoch; not yet reproduced with this code).
# Setting:  the CutMix paper's (arXiv:1905.04899, Section 4.1.1): 300 epochs, batch 256, lr 0.1, divided by 10 after 75,
#           150 and 225 epochs; alpha = 1, in every batch (p = 1 on ImageNet).
# Hardware: the paper's: 8 x 1080 Ti, 23 minutes an epoch, 115 hours, 6973 MB a GPU (Table 2).
# Command:  tools/dist_train.sh configs/imagenet/cutmix_r50.py 8
# Assumed:  nothing of its own; the rest is baseline_r50.py's, which follows CutMix's code.
_base_ = [
    '../_base_/models/resnet50.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/imagenet_300e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    train_cfg=dict(augments=dict(type='CutMix', alpha=1.0)),
    # Mixed batches have soft targets.
    head=dict(loss=dict(use_soft=True)),
)
train_dataloader = dict(batch_size=32)
