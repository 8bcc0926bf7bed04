# The Mixup paper's (arXiv:1710.09412, Section 3.1), after Goyal et al. (arXiv:1706.02677): total batch 1024, lr from
# 0.1 to 0.4 in the first 5 epochs, divided by 10 after 60, 120 and 180 of 200 epochs.
# Assumed: Nesterov momentum 0.9, weight decay 1e-4 on all parameters, as in the other schedules here.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.4, momentum=0.9, weight_decay=1e-4, nesterov=True),
)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=0.25,
        begin=0,
        end=5,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
    dict(type='MultiStepLR', milestones=[60, 120, 180], gamma=0.1, by_epoch=True),
]
train_cfg = dict(by_epoch=True, max_epochs=200, val_interval=1)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=1024, enable=False)
