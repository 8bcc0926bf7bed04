# What GradAug needs besides the model: the hook that announces iterations and refuses wrong set-ups,
# and the distributed wrapper (without effect in a single process).
custom_hooks = [dict(type='mmgradaug.GradAugHook')]
model_wrapper_cfg = dict(type='mmgradaug.GradAugDistributedDataParallel')
