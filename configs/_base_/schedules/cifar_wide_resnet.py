# Paper, Section 4.2, after Wide ResNet's: 200 epochs, batch 128, lr 0.1 with cosine decay, weight decay 5e-4.
# From the authors' code: SGD with Nesterov momentum 0.9, the learning rate set in every iteration.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True),
)
param_scheduler = dict(
    type='CosineAnnealingLR', T_max=200, begin=0, end=200, by_epoch=True, convert_to_iter_based=True
)
train_cfg = dict(by_epoch=True, max_epochs=200, val_interval=1)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=128, enable=False)
