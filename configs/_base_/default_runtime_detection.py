# MMDetection's defaults, our registrations, a fixed seed.
_base_ = 'mmdet::_base_/default_runtime.py'

custom_imports = dict(imports=['mmgradaug'], allow_failed_imports=False)
default_hooks = dict(
    checkpoint=dict(type='mmgradaug.WholeCheckpointHook', interval=1, max_keep_ckpts=2),
    data_check=dict(type='mmgradaug.DataCheckHook'),
    weights_check=dict(type='mmgradaug.WeightsCheckHook'),
    exact_resume=dict(type='mmgradaug.ExactResumeHook'),
    non_finite=dict(type='mmgradaug.NonFiniteHook'),
    stop_on_signal=dict(type='mmgradaug.StopOnSignalHook'),
    stuck_rank=dict(type='mmgradaug.StuckRankHook'),
    run_record=dict(type='mmgradaug.RunRecordHook'),  # run.json, which sweep and report read
)
# One seed gives one run, draws of sub-networks included; --cfg-options randomness.seed=1 another.
randomness = dict(seed=0, deterministic=False)
