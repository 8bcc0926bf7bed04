# Paper, Section 4.1: 120 epochs, total batch 512, lr 0.2, cosine decay.
# From the authors' code: SGD with Nesterov momentum 0.9, weight decay 1e-4 on all parameters, no warm-up, the
# learning rate set in every iteration. (Their configuration file has batch 256 at lr 0.2; the paper has 512.)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.2, momentum=0.9, weight_decay=1e-4, nesterov=True),
)
param_scheduler = dict(
    type='CosineAnnealingLR', T_max=120, begin=0, end=120, by_epoch=True, convert_to_iter_based=True
)
train_cfg = dict(by_epoch=True, max_epochs=120, val_interval=1)
val_cfg = dict()
test_cfg = dict()
# With --auto-scale-lr the learning rate follows the real total batch.
auto_scale_lr = dict(base_batch_size=512, enable=False)
