# Put on top of a config of configs/finetune/ by mmgradaug sweep --overlay: CIFAR-10 as class folders of images
# (CIFAR10_FOLDER/train/cat/*.jpg and CIFAR10_FOLDER/test/...), 1,000 of them labelled, 2,000 test images, 700
# iterations. Others: --cfg-options train_dataloader.dataset.num_labels=100 train_cfg.max_iters=300
# train_cfg.val_interval=150 param_scheduler.end=300.
#
# Every seed takes other labelled images. The pipelines are the config's; at 64 pixels: --cfg-options
# train_dataloader.dataset.pipeline.1.scale=64 val_dataloader.dataset.pipeline.1.scale=64
# val_dataloader.dataset.pipeline.2.crop_size=64
scale = 'CIFAR-10, 2,000 test images, 1,000 labels and 700 iterations of 32 images unless said'

folder = '{{$CIFAR10_FOLDER:data/cifar10-images}}'

# Mixup and CutMix ask for the number there.
data_preprocessor = dict(num_classes=10)
model = dict(head=dict(num_classes=10))
train_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        type='mmgradaug.LabelledSplit',
        of='CustomDataset',
        data_root=folder,
        num_labels=1000,
        split_seed=0,
    ),
)
# Every fifth image; the files are in order of classes, 200 of each.
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(data_root=folder, data_prefix='test', indices=list(range(0, 10000, 5))),
)
test_dataloader = val_dataloader

param_scheduler = dict(end=700)
train_cfg = dict(max_iters=700, val_interval=350)
