# Put on top of a config of configs/low_data/ for CIFAR-10 by mmgradaug sweep --overlay: 2,000 test images,
# WideResNet-16-1, 500 iterations of 50 images (semi-supervised: 25 labelled and 25 unlabelled ones). None of the
# paper's figures can come out of this; it compares methods.
#
# Augmentation is the config's; without it: --cfg-options train_dataloader.dataset.pipeline.0.padding=0
# train_dataloader.dataset.pipeline.1.prob=0.0 model.backbone.input_noise=0.0
scale = 'CIFAR-10, 2,000 test images, WideResNet-16-1, 50 images an iteration, 500 iterations unless said'

model = dict(
    backbone=dict(depth=16, widen_factor=1),
    head=dict(in_channels=64),
)
train_dataloader = dict(batch_size=50, num_workers=0, persistent_workers=False)
# Every fifth image: in a folder, which is in order of classes, 200 of each; of the downloaded file about as many, but
# other images, so do not compare the two.
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(indices=list(range(0, 10000, 5))),
)
test_dataloader = val_dataloader

# The share of the training that Oliver et al. have.
param_scheduler = dict(milestones=[400])
train_cfg = dict(max_iters=500, val_interval=250)
default_hooks = dict(
    logger=dict(interval=20),
    checkpoint=dict(interval=100, max_keep_ckpts=1),
)
log_processor = dict(window_size=20)
