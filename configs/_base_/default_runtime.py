# What every run shares: MMPretrain's defaults, our registrations, a fixed seed.
custom_imports = dict(imports=['mmgradaug'], allow_failed_imports=False)
default_scope = 'mmpretrain'

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=100),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='mmgradaug.WholeCheckpointHook', interval=1, max_keep_ckpts=2),
    data_check=dict(type='mmgradaug.DataCheckHook'),
    weights_check=dict(type='mmgradaug.WeightsCheckHook'),
    exact_resume=dict(type='mmgradaug.ExactResumeHook'),
    non_finite=dict(type='mmgradaug.NonFiniteHook'),
    stop_on_signal=dict(type='mmgradaug.StopOnSignalHook'),
    stuck_rank=dict(type='mmgradaug.StuckRankHook'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='VisualizationHook', enable=False),
    run_record=dict(type='mmgradaug.RunRecordHook'),  # run.json, which sweep and report read
)

env_cfg = dict(
    # Sub-networks have new shapes in every iteration, for which cuDNN would tune itself anew.
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)

vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='UniversalVisualizer', vis_backends=vis_backends)
log_level = 'INFO'
load_from = None
resume = False
# One seed gives one run, draws of sub-networks included; --cfg-options randomness.seed=1 another.
randomness = dict(seed=0, deterministic=False)
