# Mask R-CNN, ResNet-50-FPN, on COCO, plain, with all that configs/mask_rcnn_gradaug.py changes besides GradAug.
#
# Paper:    none in this form. Table 7, "ResNet-50 (Baseline)" has 36.5 / 33.3, and does not say how its batch norms
#           were trained; baseline_mask_rcnn_r50.py takes it to be MMDetection's default.
# Setting:  a control: batch norms trained and synchronised, no stage frozen, gradients clipped at norm 35; the rest as
#           baseline_mask_rcnn_r50.py. So GradAug's row can be told from what comes with it.
# Hardware: the paper does not say. MMDetection's 1x schedule is for 8 GPUs; not measured here.
# Command:  tools/dist_train.sh configs/coco/baseline_syncbn_mask_rcnn_r50.py 8
#           It starts from work_dirs/baseline_r50/epoch_120.pth, as baseline_mask_rcnn_r50.py.
# Assumed:  as baseline_mask_rcnn_r50.py.
_base_ = 'baseline_mask_rcnn_r50.py'

model = dict(
    backbone=dict(
        frozen_stages=-1, norm_eval=False, norm_cfg=dict(type='SyncBN', requires_grad=True)
    )
)
optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))
