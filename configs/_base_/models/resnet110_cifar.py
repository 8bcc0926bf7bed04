# ResNet-110 for CIFAR, 1.7 million parameters. The classes are the row's. No zero-initialised residual branches, of
# which neither paper knows (MMPretrain's default has them).
model = dict(
    type='ImageClassifier',
    backbone=dict(type='mmgradaug.SlimmableResNetCIFAR', depth=110, zero_init_residual=False),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        in_channels=64,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
        topk=(1, 5),
        # PyTorch's own initial weights, as in the authors' code (MMPretrain's default is Normal(0, 0.01)).
        init_cfg=None,
    ),
)
