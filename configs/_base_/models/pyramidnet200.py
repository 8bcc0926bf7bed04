# PyramidNet-200 with bottlenecks and alpha 240, 26.8 million parameters. The classes are the row's.
model = dict(
    type='ImageClassifier',
    backbone=dict(type='mmgradaug.PyramidNet', depth=200, alpha=240, bottleneck=True),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        in_channels=1024,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
        topk=(1, 5),
        # PyTorch's own initial weights, as in the authors' code (MMPretrain's default is Normal(0, 0.01)).
        init_cfg=None,
    ),
)
