# ResNet-50 + GradAug on ImageNet.
#
# Paper:    Table 1, "ResNet-50 + GradAug (Ours)": 78.79 top-1, 94.38 top-5 (the paper's figures; not yet
#           reproduced with this code). Baseline there: 76.32 / 92.95.
# Setting:  Section 4.1: n = 3 sub-networks, alpha = 0.9, random scale {224, 192, 160, 128}, 120 epochs, total batch
#           512, lr 0.2 cosine. Accuracy of the final epoch, not of the best.
# Hardware: the paper's: 8 x 1080 Ti, 61 minutes an epoch, 122 hours, 7145 MB a GPU (Table 2).
# Command:  tools/dist_train.sh configs/gradaug_r50_imagenet.py 8
#           Another number of GPUs: add --auto-scale-lr, or keep the batch at 512 by
#           --cfg-options train_dataloader.batch_size=128 (for 4).
# Assumed:  what the paper leaves open is from the authors' code, see the files of _base_: bilinear resizing of the
#           normalised batch with align_corners=True, KL divergence at temperature 1 as soft-label loss, optimizer
#           details, no zero-initialised residuals.
#           The authors' code draws widths and sizes as here, except that it keeps
#           one channel fewer in the middle of some bottlenecks by truncation.
_base_ = [
    '_base_/models/resnet50.py',
    '_base_/datasets/imagenet.py',
    '_base_/schedules/imagenet_120e.py',
    '_base_/default_runtime.py',
    '_base_/gradaug.py',
]

model = dict(
    type='mmgradaug.GradAugClassifier',
    gradaug=dict(
        num_subnets=3,
        min_width=0.9,
        transforms=dict(type='RandomResize', sizes=[224, 192, 160, 128]),
    ),
    backbone=dict(type='mmgradaug.SlimmableResNet'),
)
