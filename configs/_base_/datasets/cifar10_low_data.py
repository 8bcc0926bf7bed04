# CIFAR-10 with 250 labels (25 a class), batches of 100; other numbers and splits:
# --cfg-options train_dataloader.dataset.num_labels=1000 train_dataloader.dataset.split_seed=3
#
# Augmentation of Oliver et al. (arXiv:1804.09170): translation by up to 2 pixels with padding by reflection, a flip.
# They also whiten (GCN and ZCA); here pixels are normalised as for the paper's other CIFAR experiments.
_base_ = 'cifar10.py'

train_dataloader = dict(
    batch_size=100,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='mmgradaug.LabelledSplit',
        of='mmgradaug.ImageFolder' if '{{$CIFAR10_FOLDER:download}}' != 'download' else 'CIFAR10',
        num_labels=250,
        split_seed=0,
        # A JSON file that has the split; it is written if it is not there.
        split_file=None,
        pipeline=[
            dict(type='RandomCrop', crop_size=32, padding=2, padding_mode='reflect'),
            dict(type='RandomFlip', prob=0.5, direction='horizontal'),
            dict(type='PackInputs'),
        ],
    ),
)

# For semi-supervised training: half of each batch from the images that are left, without their labels.
semi_dataloader = dict(
    collate_fn=dict(type='pseudo_collate'),
    # One of each in turn, so any even batch has as many of both.
    sampler=dict(type='mmdet.MultiSourceSampler', batch_size=2, source_ratio=[1, 1]),
    dataset=dict(part='both'),
)
