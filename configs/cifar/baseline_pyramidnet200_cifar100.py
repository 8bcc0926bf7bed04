# PyramidNet-200 on CIFAR-100, the plain baseline.
#
# Paper:    Table 3, "Baseline", column PyramidNet-200: 83.49 top-1, 94.31 top-5
#           (the paper's figures; not yet reproduced with this code).
# Setting:  Section 4.2: 300 epochs, batch 64, lr 0.25 divided by 10 after 150 and 225, weight decay
#           1e-4; final epoch.
# Hardware: the authors' README (as CutMix's): 2 GPUs; time not said, not measured here. One by this command.
# Command:  python tools/train.py configs/cifar/baseline_pyramidnet200_cifar100.py
# Assumed:  what _base_ says of augmentation and optimizer.
_base_ = [
    '../_base_/models/pyramidnet200.py',
    '../_base_/datasets/cifar100.py',
    '../_base_/schedules/cifar_pyramidnet.py',
    '../_base_/default_runtime.py',
]

model = dict(head=dict(num_classes=100))
train_dataloader = dict(batch_size=64)
