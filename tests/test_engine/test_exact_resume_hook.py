"""A run that was stopped and resumed ends bit for bit like one that was left alone."""

from functools import partial

import pytest
import torch
from helpers import gradaug_config
from mmengine.config import Config
from mmengine.dataset import DefaultSampler
from mmengine.hooks import Hook
from mmengine.registry import DATA_SAMPLERS, MODELS
from resumable import ToyImages, ToyNetwork, differences, final_state, toy_config, train
from torch import nn

from mmgradaug.engine.placed_batches import PlacedDataset, PlacedIndices, draws_of

LAST = {True: 'epoch_3.pth', False: 'iter_24.pth'}
EVERY_ITERATION = dict(save_every=1, save_by_epoch=False)


@DATA_SAMPLERS.register_module(force=True)
class DrawsGlobally(torch.utils.data.RandomSampler):
    """PyTorch's sampler, whose order comes from the global generator."""

    def __init__(self, dataset, shuffle, seed):
        super().__init__(dataset)


SET_UPS = {
    'end of an epoch': dict(stop_at=16),
    'killed after the end of an epoch': dict(stop_at=19),
    'middle of an epoch': dict(stop_at=13, **EVERY_ITERATION),
    'last iteration of an epoch': dict(stop_at=16, **EVERY_ITERATION),
    'workers': dict(stop_at=13, workers=2, **EVERY_ITERATION),
    'persistent workers': dict(stop_at=13, workers=2, persistent=True, **EVERY_ITERATION),
    'persistent workers, end of an epoch': dict(stop_at=9, workers=2, persistent=True),
    'average of weights': dict(stop_at=13, ema=True, **EVERY_ITERATION),
    'no seed': dict(stop_at=13, seed=None, **EVERY_ITERATION),
    'no seed, workers': dict(stop_at=9, seed=None, workers=2),
    'window of accumulation': dict(stop_at=13, accumulate=3, **EVERY_ITERATION),
    'epochs that end inside a window': dict(stop_at=17, accumulate=3),
    'a last batch that is smaller': dict(stop_at=13, count=23, **EVERY_ITERATION),
    'a sampler that draws globally': dict(stop_at=13, sampler='DrawsGlobally', **EVERY_ITERATION),
    'by iterations': dict(stop_at=13, by_epoch=False),
    'by iterations, at the end of the data': dict(stop_at=16, by_epoch=False),
    'by iterations, endless sampler': dict(stop_at=13, by_epoch=False, sampler='InfiniteSampler'),
    'by iterations, endless sampler, workers, no seed': dict(
        stop_at=13, by_epoch=False, sampler='InfiniteSampler', workers=2, seed=None
    ),
    'by iterations, persistent workers': dict(
        stop_at=13, by_epoch=False, workers=2, persistent=True
    ),
    'by iterations, window of accumulation': dict(stop_at=14, by_epoch=False, accumulate=3),
    'by iterations, draws globally': dict(stop_at=13, by_epoch=False, sampler='DrawsGlobally'),
    'ranks seeded differently': dict(
        stop_at=13, randomness=dict(seed=0, diff_rank_seed=True), **EVERY_ITERATION
    ),
}


@pytest.fixture(scope='module')
def left_alone(tmp_path_factory):
    """The end of a run that nothing stopped; loaded without workers, which change nothing, saved by epochs."""
    ends = {}

    def end(**options):
        for key in ('workers', 'persistent', *EVERY_ITERATION):
            options.pop(key, None)
        key = repr(sorted(options.items()))
        if key not in ends:
            folder = tmp_path_factory.mktemp('alone')
            train(folder, **options)
            ends[key] = final_state(folder, LAST[options.get('by_epoch', True)])
        return ends[key]

    return end


@pytest.mark.parametrize('name', SET_UPS)
def test_stopped_and_resumed_is_as_left_alone(tmp_path, name, left_alone):
    options = dict(SET_UPS[name])
    stop_at = options.pop('stop_at')
    last = 'iter_24.pth' if 'save_by_epoch' in options else LAST[options.get('by_epoch', True)]
    first = train(tmp_path, stop_at=stop_at, **options)
    assert first.iter == stop_at - 1
    # Without a seed the run left alone gets the one that the first one drew.
    seed = dict(seed=first.seed) if options.get('seed', 0) is None else {}
    second = train(tmp_path, resume=True, **options)
    assert second.iter == 24
    assert not differences(left_alone(**{**options, **seed}), final_state(tmp_path, last))


class LoopOfTheFork(Hook):
    """OneDL's loop goes to the middle by one call, or not at all; MMEngine's behind it asks for batches."""

    priority = 'LOWEST'

    def __init__(self, fast_forward):
        self.fast_forward = fast_forward

    def before_run(self, runner):
        runner.train_loop.fast_forward_on_resume = self.fast_forward

    def before_train_epoch(self, runner):
        loop = runner.train_loop
        batches, asked = loop.dataloader_iterator, runner.iter
        if not self.fast_forward:
            batches.skip_iter(asked)

        class Asked(type(batches)):
            def __next__(self):
                nonlocal asked
                asked -= 1
                return None if asked >= 0 else super().__next__()

        batches.__class__ = Asked


@pytest.mark.parametrize('fast_forward', [False, True])
def test_a_loop_that_skips_by_another_method(tmp_path, left_alone, fast_forward):
    options = dict(by_epoch=False)
    train(tmp_path, stop_at=13, **options)
    train(tmp_path, [LoopOfTheFork(fast_forward)], resume=True, **options)
    assert not differences(left_alone(**options), final_state(tmp_path, LAST[False]))


def everything_random(work_dir, data, **options):
    """Widths, depths, sizes, ShakeDrop, DropBlock, DropPath, CutMix and Mixup on real images, 4 batches an epoch."""
    cfg = toy_config(work_dir, **options)
    given = Config.fromfile(data / 'config.py')
    cfg.model = dict(
        type='mmgradaug.GradAugClassifier',
        gradaug=gradaug_config(
            transforms=dict(type='RandomResize', sizes=[16, 12]), survival_prob=0.5
        ),
        backbone=dict(
            type='mmgradaug.SlimmableResNetCIFAR', depth=14, drop_path_rate=0.3,
            regularizers=[
                dict(type='ShakeDrop', last_drop_prob=0.5),
                dict(type='DropBlock', drop_prob=0.3, block_size=3, groups=[2, 3]),
            ],
        ),
        neck=given.model.neck,
        head=dict(given.model.head, loss=dict(type='CrossEntropyLoss', use_soft=True)),
        train_cfg=dict(
            augments=[dict(type='CutMix', alpha=1.0), dict(type='Mixup', alpha=1.0)]
        ),
        data_preprocessor=given.data_preprocessor,
    )  # fmt: skip
    cfg.default_scope = 'mmpretrain'
    cfg.train_dataloader.dataset = given.train_dataloader.dataset
    cfg.custom_hooks.append(dict(type='mmgradaug.GradAugHook'))
    return cfg


def mean_teacher(work_dir, data, **options):
    """Batches of two sources, labelled and not, for a student with dropped weights and its teacher."""
    cfg = toy_config(work_dir, by_epoch=False, **options)
    given = Config.fromfile(data / 'config.py')
    cfg.model = dict(
        type='mmgradaug.MeanTeacherClassifier',
        mean_teacher=dict(momentum=0.7, ramp_up=0.0),
        backbone=dict(type='mmgradaug.WideResNet', depth=10, widen_factor=1, dropout=0.3),
        neck=given.model.neck,
        head=given.model.head,
        data_preprocessor=given.data_preprocessor,
    )
    cfg.default_scope = 'mmpretrain'
    loader = cfg.train_dataloader
    loader.batch_size = 4
    loader.collate_fn = dict(type='pseudo_collate')
    loader.sampler = dict(type='mmdet.MultiSourceSampler', batch_size=4, source_ratio=[1, 1])
    loader.dataset = dict(
        given.train_dataloader.dataset,
        type='mmgradaug.LabelledSplit',
        of='CustomDataset',
        num_labels=4,
        part='both',
    )
    cfg.custom_hooks.append(dict(type='mmgradaug.MeanTeacherHook'))
    return cfg


# Of 24 iterations with these options.
WITH_IMAGES = {
    'GradAug and its regularizers': (everything_random, dict(epochs=6)),
    'Mean Teacher, batches of two sources': (mean_teacher, {}),
}


@pytest.mark.parametrize('name', WITH_IMAGES)
def test_everything_random_of_this_package(tmp_path, classifier, name):
    """In the middle of the second epoch."""
    config, _ = WITH_IMAGES[name]
    options = dict(config=partial(config, data=classifier), epochs=2, **EVERY_ITERATION)
    last = train(tmp_path / 'alone', **options).iter
    train(tmp_path / 'stopped', stop_at=6, **options)
    train(tmp_path / 'stopped', resume=True, **options)
    states = [final_state(tmp_path / run, f'iter_{last}.pth') for run in ('alone', 'stopped')]
    assert last > 6 and not differences(*states)


@pytest.mark.parametrize('name', ['middle of an epoch', 'by iterations', 'window of accumulation'])
def test_mmengine_alone_is_not_exact_there(tmp_path, name):
    """So these tests can fail."""
    options = dict(SET_UPS[name], exact=False)
    last = 'iter_24.pth'
    stop_at = options.pop('stop_at')
    train(tmp_path / 'alone', **options)
    train(tmp_path / 'stopped', stop_at=stop_at, **options)
    try:
        iterations = train(tmp_path / 'stopped', resume=True, **options).iter
    except AssertionError:  # MMEngine's, as there are more iterations than it had counted
        return
    if iterations != 24:
        return
    resumed = final_state(tmp_path / 'stopped', last)
    assert differences(final_state(tmp_path / 'alone', last), resumed)


def test_resuming_does_not_load_what_came_before(tmp_path):
    loaded = []

    class Watch(Hook):
        def before_train(self, runner):
            read = ToyImages.__getitem__

            def watched(dataset, index):
                loaded.append(index)
                return read(dataset, index)

            ToyImages.__getitem__ = watched
            self.restore = lambda: setattr(ToyImages, '__getitem__', read)

    for by_epoch in (True, False):
        folder = tmp_path / str(by_epoch)
        options = dict(by_epoch=by_epoch, save_every=1, save_by_epoch=False)
        train(folder, stop_at=20, **options)
        hook = Watch()
        try:
            train(folder, resume=True, register=[hook], **options)
        finally:
            hook.restore()
        assert len(loaded) == 4 * 3
        loaded.clear()


def test_averaged_weights_are_not_gone_on_from_in_silence(tmp_path):
    train(tmp_path, ema=True, stop_at=10)
    with pytest.raises(ValueError, match='averaged weights.*write the EMAHook'):
        train(tmp_path, resume=True)
    train(tmp_path, ema=True, resume=True)


def test_the_log_of_a_resumed_epoch_goes_on_counting(tmp_path):
    seen = []

    class Watch(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            seen.append((runner.epoch, batch_idx, runner.iter))

    train(tmp_path, stop_at=13, **EVERY_ITERATION)
    train(tmp_path, resume=True, register=[Watch()], **EVERY_ITERATION)
    assert seen[:4] == [(1, 5, 13), (1, 6, 14), (1, 7, 15), (2, 0, 16)]
    assert len(seen) == 11


def place(dataset, epoch, position, seed=0, rank=0):
    return PlacedDataset(dataset, seed, rank).__getitems__(PlacedIndices(epoch, position, [0, 1]))


def test_augmentation_is_a_function_of_the_place_alone():
    data = ToyImages(24)
    rows = {}
    for key in [(0, 0), (0, 1), (1, 0), (0, 0, 1), (0, 0, 0, 1), (0, 0)]:
        torch.manual_seed(len(rows))
        before = torch.get_rng_state()
        found = torch.stack([item['inputs'] for item in place(data, *key)])
        assert torch.equal(before, torch.get_rng_state())
        if key in rows:
            assert torch.equal(rows[key], found)
        rows[key] = found
    values = list(rows.values())
    for i, one in enumerate(values):
        assert not any(torch.allclose(one, other) for other in values[i + 1 :])


def test_a_placed_dataset_is_the_dataset_to_everything_else():
    data = ToyImages(24)
    placed = PlacedDataset(data, 0, 0)
    assert placed.metainfo is data.metainfo and len(placed) == 24
    placed.augment = False  # as hooks do that switch a pipeline
    assert data.augment is False
    assert torch.equal(place(data, 0, 0)[1]['inputs'], data.rows[1])


def test_draws_of_a_place_leave_the_generators_alone():
    import random

    import numpy as np

    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    with draws_of(1, 2):
        one = random.random(), np.random.rand(), torch.rand(1)
    with draws_of(1, 2):
        assert one == (random.random(), np.random.rand(), torch.rand(1))
    assert states[0] == random.getstate()
    assert states[1] == np.random.get_state()[1].tolist()
    assert torch.equal(states[2], torch.get_rng_state())


def test_the_order_of_images_is_mmengines(tmp_path):
    """What is recorded of earlier runs holds: only augmentation draws differently."""
    seen = []

    class Watch(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            seen.extend(sample.img_path for sample in data_batch['data_samples'])

    train(tmp_path, epochs=2, register=[Watch()])
    sampler = DefaultSampler(ToyImages(24), seed=0)
    expected = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        expected += [f'row_{index}.png' for index in sampler]
    assert seen == expected


@pytest.mark.parametrize(
    ('changes', 'says'),
    [
        (dict(batch_size=4), 'train_dataloader.batch_size=3'),
        (dict(count=27), 'number of images.*24 there, 27 here'),
        (dict(accumulate=2), 'optim_wrapper.accumulative_counts: 1 there, 2 here'),
        (dict(by_epoch=False), 'kind of loop.*by epochs there, by iterations here'),
    ],
)
def test_another_set_up_is_refused(tmp_path, changes, says):
    train(tmp_path, stop_at=13, **EVERY_ITERATION)
    with pytest.raises(ValueError, match=says):
        train(tmp_path, resume=True, **EVERY_ITERATION, **changes)


@MODELS.register_module(force=True)
class AnotherToyNetwork(ToyNetwork):
    def __init__(self, classes, more):
        super().__init__()
        last = nn.Linear(16, classes)
        self.layers = nn.Sequential(*self.layers[:4], last, *[nn.Linear(classes, classes)] * more)


@pytest.mark.parametrize(
    ('changes', 'says'),
    [
        (dict(classes=5, more=0), r'6 of the 8 weights .*: layers\.4\.weight, layers\.4\.bias\)'),
        (dict(classes=4, more=1), r'8 of the 10 weights .*there or of another shape: layers\.5\.w'),
    ],
)
def test_a_checkpoint_of_another_network_is_not_gone_on_from(tmp_path, changes, says):
    """Without momentum the optimizer has no state that would not fit."""
    options = dict(optim=dict(optimizer=dict(type='SGD', lr=0.1)), ema=True)
    train(tmp_path, stop_at=9, **options)

    def with_network(network):
        def config(*arguments, **more):
            cfg = toy_config(*arguments, **more)
            cfg.model = dict(type='AnotherToyNetwork', **network)
            return cfg

        return config

    with pytest.raises(ValueError, match=f'{says}.*write load_from=FILE, without --resume'):
        train(tmp_path, config=with_network(changes), resume=True, **options)
    assert not (tmp_path / 'epoch_2.pth').exists()
    train(tmp_path, config=with_network(dict(classes=4, more=0)), resume=True, **options)
    assert (tmp_path / 'epoch_3.pth').is_file()


def test_a_checkpoint_of_a_larger_network_is_not_gone_on_from(tmp_path):
    train(tmp_path, stop_at=9)
    weights = torch.load(tmp_path / 'epoch_1.pth', weights_only=True)
    weights['state_dict']['layers.5.weight'] = torch.zeros(4, 4)
    torch.save(weights, tmp_path / 'epoch_1.pth')
    with pytest.raises(ValueError, match=r'8 of the 8 .*without a place in this model: layers\.5'):
        train(tmp_path, resume=True)


def test_what_cannot_be_exact_is_refused(tmp_path):
    options = dict(stop_at=13, exact=False, by_epoch=False)
    train(tmp_path, **options)
    with pytest.raises(ValueError, match='default_hooks.exact_resume=None'):
        train(tmp_path, by_epoch=False, resume=True)
    train(tmp_path, by_epoch=False, resume=True, exact=False)


def test_a_checkpoint_of_a_run_without_the_hook_goes_on_from_the_end_of_its_epoch(tmp_path):
    train(tmp_path, stop_at=13, exact=False)
    assert train(tmp_path, resume=True).iter == 24


def test_configs_have_it():
    from command_line import ROOT

    for name in ('gradaug_r50_imagenet', 'mask_rcnn_gradaug', 'coco/baseline_mask_rcnn_r50'):
        hooks = Config.fromfile(ROOT / f'configs/{name}.py').default_hooks
        assert hooks.exact_resume.type == 'mmgradaug.ExactResumeHook'
    assert toy_config('x').default_hooks.exact_resume
