# Put on top of a config of configs/cifar/ by mmgradaug sweep --overlay: CIFAR-10 with 250 labels, 2,000 test images,
# WideResNet-16-1, 500 iterations of 50 images. None of the paper's figures can come out of this; it compares methods.
#
# Every seed takes other labelled images. Augmentation is the config's; without it: --cfg-options
# train_dataloader.dataset.pipeline.0.padding=0 train_dataloader.dataset.pipeline.1.prob=0.0
scale = 'CIFAR-10 with 250 labels, 2,000 test images, WideResNet-16-1, 500 iterations of 50 images'

folder = '{{$CIFAR10_FOLDER:download}}'
source, data_root = (
    ('mmgradaug.ImageFolder', folder) if folder != 'download' else ('CIFAR10', 'data/cifar10')
)

model = dict(
    backbone=dict(depth=16, widen_factor=1),
    head=dict(num_classes=10, in_channels=64),
)
data_preprocessor = dict(num_classes=10)
train_dataloader = dict(
    batch_size=50,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='mmgradaug.LabelledSplit', of=source, data_root=data_root, num_labels=250, split_seed=0
    ),
)
# Every fifth image: in a folder, which is in order of classes, 200 of each; of the downloaded file about as many, but
# other images, so do not compare the two.
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(type=source, data_root=data_root, indices=list(range(0, 10000, 5))),
)
test_dataloader = val_dataloader

optim_wrapper = dict(optimizer=dict(lr=0.1))
param_scheduler = dict(_delete_=True, type='CosineAnnealingLR', begin=0, end=500, by_epoch=False)
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=500, val_interval=100)
default_hooks = dict(
    logger=dict(interval=20, log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=100, max_keep_ckpts=1),
)
log_processor = dict(by_epoch=False, window_size=20)
