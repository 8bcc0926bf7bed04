# What GradAug needs besides the model in any config of MMDetection's.
_base_ = 'gradaug.py'

custom_imports = dict(imports=['mmgradaug'], allow_failed_imports=False)
# One seed gives one run, draws of sub-networks included.
randomness = dict(seed=0, deterministic=False)

# For the model of a config: gradaug=_base_.gradaug_settings, backbone=_base_.trained_backbone. (Two bases
# must not both set `model`.)
gradaug_settings = dict(
    num_subnets=3,
    min_width=0.9,
    transforms=dict(type='RandomScale', factors=[1.0, 192 / 224, 160 / 224, 128 / 224]),
)
trained_backbone = dict(
    frozen_stages=-1, norm_eval=False, norm_cfg=dict(type='SyncBN', requires_grad=True)
)
