# STL-10 with 1,000 labels (100 a class), batches of 100. It is downloaded to data/stl10 (2.6 GB); already extracted
# elsewhere: --cfg-options {train,val,test}_dataloader.dataset.data_root=DIR, the folder that has stl10_binary/.
#
# One of the ten predefined folds instead of a random split: --cfg-options train_dataloader.dataset.fold=0; in
# mmgradaug sweep: --folds.
#
# Assumed, since neither the paper nor Oliver et al. say: 96 x 96 pixels, the translation of CIFAR-10's pipeline in
# proportion (6 pixels), ImageNet's means and deviations, as the images are from there.
data_preprocessor = dict(
    num_classes=10,
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    # The dataset hands out RGB.
    to_rgb=False,
)

train_dataloader = dict(
    batch_size=100,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='mmgradaug.LabelledSplit',
        of='mmgradaug.STL10',
        data_root='data/stl10',
        split='train',
        num_labels=1000,
        split_seed=0,
        # A JSON file that has the split; it is written if it is not there.
        split_file=None,
        pipeline=[
            dict(type='RandomCrop', crop_size=96, padding=6, padding_mode='reflect'),
            dict(type='RandomFlip', prob=0.5, direction='horizontal'),
            dict(type='PackInputs'),
        ],
    ),
)
val_dataloader = dict(
    batch_size=200,
    num_workers=2,
    persistent_workers=True,
    pin_memory=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmgradaug.STL10',
        data_root='data/stl10',
        split='test',
        pipeline=[dict(type='PackInputs')],
    ),
)
val_evaluator = dict(type='Accuracy', topk=(1, 5))
test_dataloader = val_dataloader
test_evaluator = val_evaluator

# For semi-supervised training: half of each batch from the 100,000 images that have no labels.
semi_dataloader = dict(
    collate_fn=dict(type='pseudo_collate'),
    # One of each in turn, so any even batch has as many of both.
    sampler=dict(type='mmdet.MultiSourceSampler', batch_size=2, source_ratio=[1, 1]),
    dataset=dict(
        part='both',
        unlabelled=dict(type='mmgradaug.STL10', data_root='data/stl10', split='unlabeled'),
    ),
)
