# ResNet-50 + GradAug on ImageNet, cheaper: NOT a setting of the paper's.
#
# Paper:    none; the paper has no cheaper setting. configs/gradaug_r50_imagenet.py is its own, with its figures.
# Setting:  ours: the preset 'economy', found by a search on CIFAR-10 and digits (docs/economy.md), in place of n = 3.
#           Everything else is as in configs/gradaug_r50_imagenet.py. Whether it keeps the gain on ImageNet is not
#           measured.
# Hardware: not run. 1.29 times the multiplications of plain training, counted over 3,000 iterations (the paper's
#           setting: 2.68), so about 57 hours on the paper's 8 x 1080 Ti if time goes with them (Table 2: 22 minutes a
#           plain epoch; GradAug 122 hours); memory is that of plain training. `mmgradaug cost` measures it where
#           you are.
# Command:  tools/dist_train.sh configs/imagenet/gradaug_economy_r50.py 8
#           What it costs here, beside plain training and the paper's setting:
#           mmgradaug cost configs/imagenet/gradaug_economy_r50.py
# Assumed:  what configs/gradaug_r50_imagenet.py assumes.
_base_ = ['../gradaug_r50_imagenet.py']

model = dict(
    gradaug=dict(
        _delete_=True,
        preset='economy',
        min_width=0.9,
        transforms=dict(type='RandomResize', sizes=[224, 192, 160, 128]),
    ),
)
