# ResNet-50 on ImageNet, the plain baseline on the schedule that its figure comes from.
#
# Paper:    Table 1, "ResNet-50": 76.32 top-1, 92.95 top-5, which are the CutMix paper's, of its best epoch (the
#           paper's figures; not yet reproduced with this code; CutMix's README has an error of 23.68, which is the
#           same).
# Setting:  the CutMix paper's (arXiv:1905.04899, Section 4.1.1) without CutMix: 300 epochs, batch 256, lr 0.1, divided
#           by 10 after 75, 150 and 225 epochs.
# Hardware: CutMix's README: 4 GPUs; hours not said. By this paper's 22 minutes an epoch of plain training on 8 x 1080
#           Ti (Table 2): 110 hours.
# Command:  tools/dist_train.sh configs/imagenet/baseline_300e_r50.py 8
# Assumed:  nothing of its own; Cutout, CutMix and stochastic depth have this schedule too. The baseline that differs
#           from GradAug in GradAug alone is baseline_r50.py, of 120 epochs.
_base_ = [
    '../_base_/models/resnet50.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/imagenet_300e.py',
    '../_base_/default_runtime.py',
]

train_dataloader = dict(batch_size=32)
