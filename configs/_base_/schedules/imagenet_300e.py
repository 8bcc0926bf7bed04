# The CutMix paper's (arXiv:1905.04899, Section 4.1.1): 300 epochs, total batch 256, lr 0.1 divided by 10 after 75, 150
# and 225 epochs. It reports the best epoch. Weight decay and momentum from its code.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4, nesterov=True),
)
param_scheduler = dict(type='MultiStepLR', milestones=[75, 150, 225], gamma=0.1, by_epoch=True)
train_cfg = dict(by_epoch=True, max_epochs=300, val_interval=1)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=256, enable=False)
