"""What of a config tells runs apart that may not be averaged."""

from mmgradaug.experiments.settings import differ_in_gradaug_alone, settings_of


def test_weights_and_annotations_tell_trainings_apart_wherever_they_lie():
    def settings(**more):
        dataset = dict(type='CocoDataset', data_root='/a', ann_file='x/train.json')
        return settings_of(dict(train_dataloader=dict(dataset=dataset), load_from=None) | more)

    of_other_images = dict(dataset=dict(type='CocoDataset', data_root='/b', ann_file='y/few.json'))
    elsewhere = dict(dataset=dict(type='CocoDataset', data_root='/b', ann_file='y/train.json'))
    assert settings() == settings(train_dataloader=elsewhere)
    assert settings() != settings(train_dataloader=of_other_images)
    assert settings() != settings(load_from='/weights/coco.pth')
    assert settings(load_from='/a/coco.pth') == settings(load_from='/b/coco.pth')
    # A resumed run's own checkpoint.
    assert settings() == settings(load_from='/a/iter_5.pth', resume=True)


def test_gradaug_alone():
    plain = dict(model=dict(type='X', depth=1), train_cfg=dict(max_iters=9))
    ours = dict(model=dict(type='G', depth=1, gradaug=dict(n=3)), train_cfg=dict(max_iters=9))
    shorter = dict(ours, train_cfg=dict(max_iters=3))
    one, other, short = map(settings_of, (ours, plain, shorter))
    assert differ_in_gradaug_alone(one, other) and not differ_in_gradaug_alone(short, other)
    assert differ_in_gradaug_alone(short, other, lengths_too=True)
    deeper = settings_of(dict(plain, model=dict(type='X', depth=2)))
    assert not differ_in_gradaug_alone(one, deeper, lengths_too=True)
