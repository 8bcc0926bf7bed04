# ResNet-50 + GradAug + CutMix (p = 0.5) on ImageNet: GradAug with the dagger.
#
# Paper:    Table 1, "ResNet-50 + GradAug(dagger)": 79.67 top-1, 94.93 top-5 (the paper's figures; not yet
#           reproduced with this code).
# Setting:  Eq. 6 and Section 4.1: CutMix with probability 0.5 a batch; sub-networks see the transformed mixed batch
#           and learn the full network's output on it. The rest as configs/gradaug_r50_imagenet.py.
# Hardware: the paper's for GradAug on ImageNet: 8 x 1080 Ti, 61 minutes an epoch, 122 hours, 7145 MB a GPU (Table 2);
#           not measured here.
# Command:  tools/dist_train.sh configs/imagenet/gradaug_cutmix_r50.py 8
# Assumed:  120 epochs (the paper does not repeat the number for this row); CutMix's own alpha = 1.
_base_ = '../gradaug_r50_imagenet.py'

model = dict(
    train_cfg=dict(augments=dict(type='CutMix', alpha=1.0), probs=0.5),
    # Mixed batches have soft targets.
    head=dict(loss=dict(use_soft=True)),
)
