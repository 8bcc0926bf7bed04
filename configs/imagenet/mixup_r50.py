# ResNet-50 + Mixup on ImageNet; also the backbone of configs/coco/mixup_pretrained_mask_rcnn_r50.py.
#
# Paper:    Table 1, "ResNet-50 + Mixup": 77.9 top-1, 93.9 top-5 (the paper's figures, which it takes from the Mixup
#           paper; Table 2: 200 epochs, and 76.7 after 90; not yet reproduced with this code).
# Setting:  Mixup in every batch; 200 epochs.
# Hardware: the paper's: 8 x 1080 Ti, 23 minutes an epoch, 77 hours, 6973 MB a GPU (Table 2).
# Command:  tools/dist_train.sh configs/imagenet/mixup_r50.py 8
# Assumed:  alpha = 0.2, as in "Bag of Tricks" (arXiv:1812.01187); the CutMix paper chose 1.0 over 0.5 for 300 epochs.
#           Batch, learning rate and augmentation are baseline_r50.py's, the cosine stretched to 200 epochs.
_base_ = 'baseline_r50.py'

model = dict(
    train_cfg=dict(augments=dict(type='Mixup', alpha=0.2)),
    # Mixed batches have soft targets.
    head=dict(loss=dict(use_soft=True)),
)
param_scheduler = dict(T_max=200, end=200)
train_cfg = dict(max_epochs=200)
