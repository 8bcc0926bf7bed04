# The DropBlock paper's (arXiv:1810.12890, Section 4.1): 270 epochs, total batch 1024, the learning rate divided by 10
# after 125, 200 and 250 epochs. It reports the best epoch. From its authors' code (tensorflow/tpu,
# models/official/resnet/resnet_main.py): lr 0.4 (0.1 for each 256 images) after 5 epochs of linear warm-up from 0,
# weight decay 1e-4 on all but batch norms, Nesterov momentum 0.9.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.4, momentum=0.9, weight_decay=1e-4, nesterov=True),
    paramwise_cfg=dict(norm_decay_mult=0.0),
)
param_scheduler = [
    dict(
        type='LinearLR',
        # The first iteration's; MMEngine takes no 0.
        start_factor=1e-4,
        begin=0,
        end=5,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
    dict(type='MultiStepLR', milestones=[125, 200, 250], gamma=0.1, by_epoch=True),
]
train_cfg = dict(by_epoch=True, max_epochs=270, val_interval=1)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=1024, enable=False)
