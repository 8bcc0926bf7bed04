# The DropBlock paper's (arXiv:1810.12890, Section 4.1): 270 epochs, total batch 1024, the learning rate divided by 10
# after 125, 200 and 250 epochs. It reports the best epoch. Assumed: lr 0.4 (0.1 for each 256 images), weight decay
# 1e-4.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.4, momentum=0.9, weight_decay=1e-4, nesterov=True),
)
param_scheduler = dict(type='MultiStepLR', milestones=[125, 200, 250], gamma=0.1, by_epoch=True)
train_cfg = dict(by_epoch=True, max_epochs=270, val_interval=1)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=1024, enable=False)
