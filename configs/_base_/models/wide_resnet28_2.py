# WideResNet-28-2 as Oliver et al. (arXiv:1804.09170) have it, whose settings the paper follows in Section 4.6: leaky
# ReLU of slope 0.1, Gaussian noise of deviation 0.15 on the input in training; 1.5 million parameters.
#
# Differs from their code: the shortcuts of stages 2 and 3 take the activated input (there: the raw one); batch norms
# have PyTorch's epsilon and momentum (there: TensorFlow's defaults); the dense layer's initial weights are uniform
# (there: normal, of the same deviation).
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mmgradaug.WideResNet',
        depth=28,
        widen_factor=2,
        act_cfg=dict(type='LeakyReLU', negative_slope=0.1),
        input_noise=0.15,
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=128,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
        topk=(1, 5),
        # Glorot's.
        init_cfg=dict(type='Xavier', layer='Linear', distribution='uniform'),
    ),
)
