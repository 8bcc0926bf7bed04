# WideResNet-28-10, 36.5 million parameters. The classes are the row's.
model = dict(
    type='ImageClassifier',
    backbone=dict(type='mmgradaug.WideResNet', depth=28, widen_factor=10),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        in_channels=640,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
        topk=(1, 5),
        # PyTorch's own initial weights and a bias of 0, as in the authors' code (MMPretrain's default is
        # Normal(0, 0.01)).
        init_cfg=dict(
            type='Kaiming',
            layer='Linear',
            a=5**0.5,
            mode='fan_in',
            nonlinearity='leaky_relu',
            distribution='uniform',
        ),
    ),
)
