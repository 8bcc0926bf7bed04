# Paper, Section 4.2, after PyramidNet's: 300 epochs, batch 64, lr 0.25 divided by 10 after 150 and 225 epochs, weight
# decay 1e-4. From PyramidNet's code: SGD with Nesterov momentum 0.9.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.25, momentum=0.9, weight_decay=1e-4, nesterov=True),
)
param_scheduler = dict(type='MultiStepLR', milestones=[150, 225], gamma=0.1, by_epoch=True)
train_cfg = dict(by_epoch=True, max_epochs=300, val_interval=1)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=64, enable=False)
