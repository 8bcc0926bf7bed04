# ResNet-50 + ShakeDrop on ImageNet.
#
# Paper:    Table 1, "ResNet-50 + ShakeDrop": 77.5 top-1
#           (the paper's figures; not yet reproduced with this code). Baseline there: 76.32 / 92.95.
# Setting:  ShakeDrop after the last batch norm of each branch.
# Hardware: 8 GPUs by this command. The paper's for plain training on ImageNet: 8 x 1080 Ti, 22 minutes an epoch, 6973
#           MB a GPU (Table 2), which makes 44 hours; not measured here.
# Command:  tools/dist_train.sh configs/imagenet/shakedrop_r50.py 8
# Assumed:  p_L = 0.5 and the schedule of baseline_r50.py: what the ShakeDrop paper used for ResNet-50 could not be
#           found. alpha = 0 and beta in [0, 1] by element: by a summary of its last version, that is the form for
#           networks with an activation after the addition; alpha in [-1, 1] is for those without, as PyramidNet.
_base_ = 'baseline_r50.py'

model = dict(
    backbone=dict(
        type='mmgradaug.SlimmableResNet',
        regularizers=[dict(type='ShakeDrop', last_drop_prob=0.5, alpha=(0.0, 0.0))],
    ),
)
