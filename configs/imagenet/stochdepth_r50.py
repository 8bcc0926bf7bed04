# ResNet-50 + stochastic depth on ImageNet.
#
# Paper:    Table 1, "ResNet-50 + StochDepth": 77.53 top-1, 93.73 top-5, which are the CutMix paper's, of its best epoch
#           (the paper's figures; not yet reproduced with this code). Baseline there: 76.32 / 92.95.
# Setting:  the CutMix paper's: drop rate 0.25, 300 epochs, batch 256.
# Hardware: CutMix's README: 4 GPUs; hours not said. 8 GPUs by this command. The paper's for plain training on
#           ImageNet: 8 x 1080 Ti, 22 minutes an epoch, 6973 MB a GPU (Table 2), which makes 110 hours; not measured
#           here.
# Command:  tools/dist_train.sh configs/imagenet/stochdepth_r50.py 8
# Assumed:  0.25 is the last block's, rising linearly from 0, by MMPretrain's drop_path_rate, which drops by image.
_base_ = [
    '../_base_/models/resnet50.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/imagenet_300e.py',
    '../_base_/default_runtime.py',
]

model = dict(backbone=dict(drop_path_rate=0.25))
train_dataloader = dict(batch_size=32)
