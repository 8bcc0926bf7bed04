# ImageNet-1k in data/imagenet/{train,val}/<wnid>/*.JPEG; 64 images a GPU, 8 GPUs: the paper's batch of 512.
#
# Augmentation: paper, Section 4.1: "We follow the same data augmentations in [13]" (CutMix). CutMix's code has
# crop, flip, colour jitter 0.4 and PCA lighting 0.1, and so has the authors'. They differ in two points. CutMix's
# code adds the lighting to pixels in [0, 1], where it shows; the authors' adds the same numbers to pixels in
# 0..255, where it moves them by about 0.02 levels: here CutMix's, as the paper says. CutMix's jitters colours of
# tensors, the authors' of 8-bit images: here the authors', as OpenMMLab's transform does.
data_preprocessor = dict(
    num_classes=1000,
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=True,
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=224, backend='pillow'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4, backend='pillow'),
    # To float32, nothing else: Lighting returns the dtype it gets, and uint8 would wrap around at 0 and 255.
    dict(type='Normalize', mean=[0.0, 0.0, 0.0], std=[1.0, 1.0, 1.0], to_rgb=False),
    # AlexNet's PCA of ImageNet pixels in 0..255. Rows in BGR order like the images: Lighting's to_rgb=True
    # would hand on RGB images, which the preprocessor would swap once more.
    dict(
        type='Lighting',
        eigval=[55.4625, 4.7940, 1.1475],
        eigvec=[
            [-0.5836, -0.6948, 0.4203],
            [-0.5808, -0.0045, -0.8140],
            [-0.5675, 0.7192, 0.4009],
        ],
        alphastd=0.1,
        to_rgb=False,
    ),
    dict(type='PackInputs'),
]

test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=256, edge='short', backend='pillow'),
    dict(type='CenterCrop', crop_size=224),
    dict(type='PackInputs'),
]

train_dataloader = dict(
    batch_size=64,
    num_workers=5,
    persistent_workers=True,
    pin_memory=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='ImageNet', data_root='data/imagenet', split='train', pipeline=train_pipeline
    ),
)

val_dataloader = dict(
    batch_size=64,
    num_workers=5,
    persistent_workers=True,
    pin_memory=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='ImageNet', data_root='data/imagenet', split='val', pipeline=test_pipeline),
)
val_evaluator = dict(type='Accuracy', topk=(1, 5))

test_dataloader = val_dataloader
test_evaluator = val_evaluator
