# What CIFAR-10 and CIFAR-100 share: 32 x 32 pixels in RGB, 128 images a batch on one GPU.
#
# Augmentation: padding by 4 and a random crop, a flip. From the authors' code: padding by reflection (as Wide ResNet's;
# PyramidNet's code pads with zeros), and these means and deviations.
data_preprocessor = dict(
    mean=[125.3, 123.0, 113.9],
    std=[63.0, 62.1, 66.7],
    # The datasets hand out RGB.
    to_rgb=False,
)

train_pipeline = [
    dict(type='RandomCrop', crop_size=32, padding=4, padding_mode='reflect'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
test_pipeline = [dict(type='PackInputs')]

train_dataloader = dict(
    batch_size=128,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(split='train', pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=200,
    num_workers=2,
    persistent_workers=True,
    pin_memory=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(split='test', pipeline=test_pipeline),
)
val_evaluator = dict(type='Accuracy', topk=(1, 5))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
