# scikit-learn's bundled digits at 16 px, 10 labelled images of each class for training, 797 test images.
# Nothing else augments: so a small network over-fits, which is what GradAug is meant to mend.
data_preprocessor = dict(
    num_classes=10,
    # Of the 1,000 images of the training part.
    mean=[78.3, 78.3, 78.3],
    std=[95.9, 95.9, 95.9],
    to_rgb=False,
)

pipeline = [
    dict(type='Resize', scale=16),
    dict(type='PackInputs'),
]

# The images are in memory, so worker processes would cost more than they save.
train_dataloader = dict(
    batch_size=25,
    num_workers=0,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='mmgradaug.Digits', split='train', labels_per_class=10, label_seed=0, pipeline=pipeline
    ),
)

val_dataloader = dict(
    batch_size=100,
    num_workers=0,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='mmgradaug.Digits', split='test', pipeline=pipeline),
)
val_evaluator = dict(type='Accuracy', topk=1)

test_dataloader = val_dataloader
test_evaluator = val_evaluator
