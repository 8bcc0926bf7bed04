# WideResNet-28-10 + GradAug + CutMix on CIFAR-100: GradAug with the dagger.
#
# Paper:    Table 3, "+ GradAug(dagger) (Ours)", column WideResNet-28-10: 85.25 top-1, 96.85 top-5 (the paper's
#           figures; not yet reproduced with this code). Baseline there: 81.53. The authors' README has 85.35 top-1.
# Setting:  Eq. 6: CutMix in half of the batches; sub-networks see the transformed mixed batch.
# Hardware: the authors' README (as CutMix's): 2 GPUs; time not said, not measured here. One by this command.
# Command:  python tools/train.py configs/cifar/gradaug_cutmix_wrn28_10_cifar100.py
# Assumed:  CutMix's own alpha = 1.
_base_ = 'gradaug_wrn28_10_cifar100.py'

model = dict(
    train_cfg=dict(augments=dict(type='CutMix', alpha=1.0), probs=0.5),
    # Mixed batches have soft targets.
    head=dict(loss=dict(use_soft=True)),
)
