# Paper, Section 4.3: "The training settings are the same as [15]" (stochastic depth, arXiv:1603.09382): 500 epochs,
# batch 128, lr 0.1 divided by 10 after half and three quarters, weight decay 1e-4, Nesterov momentum 0.9.
# (The authors' configuration file has 200 epochs of cosine decay.)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4, nesterov=True),
)
param_scheduler = dict(type='MultiStepLR', milestones=[250, 375], gamma=0.1, by_epoch=True)
train_cfg = dict(by_epoch=True, max_epochs=500, val_interval=1)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=128, enable=False)
