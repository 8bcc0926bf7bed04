# What GradAug needs besides the model in any config of MMDetection's.
_base_ = 'gradaug.py'

custom_imports = dict(imports=['mmgradaug'], allow_failed_imports=False)
# One seed gives one run, draws of sub-networks included.
randomness = dict(seed=0, deterministic=False)
