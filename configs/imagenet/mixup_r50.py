# ResNet-50 + Mixup on ImageNet; also the backbone of configs/coco/mixup_pretrained_mask_rcnn_r50.py.
#
# Paper:    Table 1, "ResNet-50 + Mixup": 77.9 top-1, 93.9 top-5 (the paper's figures, which it takes from the Mixup
#           paper; Table 2: 200 epochs, and 76.7 after 90; not yet reproduced with this code). Table 8, "+ Mixup":
#           clean error 22.1, that is the same network, 70.5 mCE.
# Setting:  the Mixup paper's (arXiv:1710.09412, Section 3.1): alpha = 0.2, in every batch; 200 epochs, batch 1024, lr
#           from 0.1 to 0.4 in 5 epochs, divided by 10 after 60, 120 and 180.
# Hardware: the paper's: 8 x 1080 Ti, 23 minutes an epoch, 77 hours, 6973 MB a GPU (Table 2).
# Command:  tools/dist_train.sh configs/imagenet/mixup_r50.py 8
# Assumed:  augmentation as in all of these configs, colour jitter and lighting included; the Mixup paper has crops and
#           flips. The CutMix paper chose alpha = 1.0 over 0.5 for its own Mixup, of 300 epochs, and has 77.42 with it.
_base_ = [
    '../_base_/models/resnet50.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/imagenet_200e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    train_cfg=dict(augments=dict(type='Mixup', alpha=0.2)),
    # Mixed batches have soft targets.
    head=dict(loss=dict(use_soft=True)),
)
train_dataloader = dict(batch_size=128)
