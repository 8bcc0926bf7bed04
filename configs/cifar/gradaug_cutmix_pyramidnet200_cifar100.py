# PyramidNet-200 + GradAug + CutMix on CIFAR-100: GradAug with the dagger.
#
# Paper:    Table 3, "+ GradAug(dagger) (Ours)", column PyramidNet-200: 86.24 top-1, 97.33 top-5
#           (the paper's figures; not yet reproduced with this code). Baseline there: 83.49.
# Setting:  Eq. 6: CutMix in half of the batches; sub-networks see the transformed mixed batch.
# Hardware: the authors' README (as CutMix's): 2 GPUs; time not said, not measured here. One by this command.
# Command:  python tools/train.py configs/cifar/gradaug_cutmix_pyramidnet200_cifar100.py
# Assumed:  CutMix's own alpha = 1.
_base_ = 'gradaug_pyramidnet200_cifar100.py'

model = dict(
    train_cfg=dict(augments=dict(type='CutMix', alpha=1.0), probs=0.5),
    # Mixed batches have soft targets.
    head=dict(loss=dict(use_soft=True)),
)
