# WideResNet-28-2 + CutMix on CIFAR-10 with 250, 1,000 or 4,000 labels.
#
# Paper:    Table 10, "+ CutMix (p=0.5)", columns CIFAR-10: 43.45 +- 1.98 (250 labels), 63.21 +- 0.73 (1,000),
#           80.28 +- 0.26 (4,000)
#           top-1; "+ CutMix (p=0.1)": 43.98 +- 1.15, 64.60 +- 0.86, 82.14 +- 0.65
#           mean and deviation over 5 splits (the paper's figures; not yet reproduced with this code).
# Setting:  the baseline's, with CutMix in half of the batches; in a tenth: model.train_cfg.probs=0.1.
# Hardware: one GPU by this command. Neither the paper nor Oliver et al.'s code says which; time not measured here.
# Command:  python tools/train.py configs/low_data/cutmix_wrn28_2_cifar10.py
#           with --cfg-options train_dataloader.dataset.num_labels=1000 train_dataloader.dataset.split_seed=1 for other
#           numbers and splits; all of the table: mmgradaug sweep table10 --seeds 5
# Assumed:  CutMix's own alpha = 1.
_base_ = 'baseline_wrn28_2_cifar10.py'

model = dict(
    train_cfg=dict(augments=dict(type='CutMix', alpha=1.0), probs=0.5),
    # Mixed batches have soft targets.
    head=dict(loss=dict(use_soft=True)),
)
