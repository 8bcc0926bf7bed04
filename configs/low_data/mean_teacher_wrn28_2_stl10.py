# WideResNet-28-2, Mean Teacher, on STL-10 with 1,000 labels.
#
# Paper:    Table 10 has no figure of Mean Teacher on STL-10.
# Setting:  Oliver et al.: lr 4e-4, consistency weight 8 after 200,000 iterations of ramp-up, momentum 0.95, 50
#           labelled and 50 unlabelled images a batch; squared differences of the softmaxes, averaged over the classes
#           and the batch.
# Hardware: one GPU by this command. Neither the paper nor Oliver et al.'s code says which; time not measured here.
# Command:  python tools/train.py configs/low_data/mean_teacher_wrn28_2_stl10.py
#           all of the table: mmgradaug sweep table10 --seeds 5
# Assumed:  differs from Oliver et al.'s code: each kind of images is normalised by its own batch statistics (theirs:
#           one mixed batch); teacher and student see one flip and shift of an image and draw noise apart (theirs: all
#           apart); the teacher is tested, as Mean Teacher's authors do (theirs: the student).
_base_ = 'baseline_wrn28_2_stl10.py'

model = dict(
    type='mmgradaug.MeanTeacherClassifier',
    mean_teacher=dict(weight=8.0, ramp_up=0.4, momentum=0.95),
)
optim_wrapper = dict(optimizer=dict(lr=4e-4))
custom_hooks = [dict(type='mmgradaug.MeanTeacherHook')]
train_dataloader = _base_.semi_dataloader
