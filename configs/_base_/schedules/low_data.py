# Oliver et al. (arXiv:1804.09170), whose settings the paper follows in Section 4.6: Adam, lr 3e-3, a fifth of it after
# 400,000 of 500,000 iterations of 100 images; no weight decay. By iterations, not epochs.
_base_ = '../default_runtime.py'

optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=3e-3))
param_scheduler = dict(type='MultiStepLR', milestones=[400000], gamma=0.2, by_epoch=False)
train_cfg = dict(type='IterBasedTrainLoop', max_iters=500000, val_interval=5000)
val_cfg = dict()
test_cfg = dict()
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=10000),
)
log_processor = dict(by_epoch=False)
# The learning rate is for batches of 100 images, on all GPUs together.
auto_scale_lr = dict(base_batch_size=100, enable=False)
