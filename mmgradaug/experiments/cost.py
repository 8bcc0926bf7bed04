"""``mmgradaug cost``: what a training takes on this machine, from some of its iterations."""

import argparse
import copy
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmgradaug.config_types import short_name
from mmgradaug.files import UserError, read_json, short, write_json
from mmgradaug.grids import show
from mmgradaug.iteration_time import seconds_per_iteration
from mmgradaug.subnets.presets import DECIDED, PRESETS, with_preset

from .items import OTHERS, Item, prepare, select
from .runs import RECORD, Run
from .summary import cost_grid
from .sweep import gpu_is_there

KIND = 'cost'
WARM_UP = 3  # iterations that make buffers, and are not timed
# Images of the training sets, where --random-images stands in for them.
IMAGES = {'ImageNet': 1_281_167, 'CIFAR10': 50_000, 'CIFAR100': 50_000}


def run(args: argparse.Namespace) -> None:
    """The command. Raises UserError if a config cannot be trained here."""
    if args.device == 'cuda' and not gpu_is_there():
        raise UserError('--device cuda: PyTorch sees no GPU here; see mmgradaug doctor')
    on_gpu = args.device == 'cuda' or (args.device is None and gpu_is_there())
    items = select(args.names, args.only)
    with tempfile.TemporaryDirectory(prefix='mmgradaug-cost-') as folder:
        prepare(items, None, args.cfg_options, Path(folder))
        entries = [
            measure(each, setting, Path(folder) / each.key, on_gpu, args)
            for item in items
            for setting, each in with_other_settings(item).items()
        ]
    for entry in entries:
        write_json(args.out / f'{entry["model"]["name"]}.json', entry)
    show(cost_grid(entries))
    print(
        f'Written to {short(args.out)}; mmgradaug report shows it, rows of Table 2 beside the paper.'
    )


def with_other_settings(item: Item) -> dict[str, Item]:
    """By name, a GradAug config that was given by path with plain training's setting and those of the presets.

    These have its widths and transformations. Its own setting comes last, if it is none of them; it is alone
    if the config is another one, or a table's row.
    """
    if not item.is_gradaug or OTHERS not in item.tables:
        return {'': item}
    own = with_preset(dict(item.cfg.model.gradaug))
    kept = {key: value for key, value in own.items() if key not in DECIDED}
    settings = {'plain': dict(kept, num_subnets=0)}
    settings.update({name: {**kept, **PRESETS[name]} for name in ('economy', 'paper')})
    found = {}
    for name, gradaug in settings.items():
        found[name] = item if gradaug == own else copy.copy(item)
        if found[name] is not item:
            found[name].row = replace(item.row, options=(*item.row.options, f'setting={name}'))
            found[name].cfg = copy.deepcopy(item.cfg)
            found[name].cfg.model.gradaug = gradaug
    return found if own in settings.values() else {**found, 'own': item}


def measure(
    item: Item, setting: str, folder: Path, on_gpu: bool, args: argparse.Namespace
) -> dict[str, Any]:
    """Seconds and memory of some iterations, and what follows for the whole training.

    Raises:
        UserError: it cannot be trained here; the message has the last lines of its output.
    """
    config = folder.parent / f'{item.key}.py'
    timed_config(item, args).dump(config)
    run = Run(item.key, 0, folder, config, arguments=['--no-validate'], on_gpu=on_gpu)
    run.start()
    assert run.process is not None
    try:
        code = run.process.wait()
    finally:
        run.stop()
    if code != 0:
        raise UserError(f'{item.key}: its iterations could not be timed here\n{run.tail()}')
    record = read_json(folder / RECORD)
    batch = record['config']['train_dataloader']['batch_size']
    unit, length = item.length
    images = record['dataset_length']
    if args.random_images:
        images = IMAGES[short_name(item.cfg.train_dataloader.dataset)]
    per_epoch = images // batch
    total = length * per_epoch if unit == 'epochs' else length
    number = timed_iterations(item, args)
    timed = 2 * number if item.phase else number
    windows = record['training']
    seconds = seconds_per_iteration(between(windows, WARM_UP + timed - number, WARM_UP + timed))
    assert seconds is not None
    if item.phase:
        plain = seconds_per_iteration(between(windows, WARM_UP, WARM_UP + number))
        assert plain is not None
        in_phase = share_of_phase(item.phase, per_epoch, total)
        seconds = in_phase * seconds + (1 - in_phase) * plain
    return {
        'kind': KIND,
        'model': {'name': item.key},
        'setting': setting,
        'seconds_per_iteration': seconds,
        'peak_memory_mb': record['peak_memory_mb'],
        'memory_of': record['memory_of'],
        'iterations': timed,
        'batch_size': batch,
        'iterations_per_epoch': per_epoch,
        'epochs': length if unit == 'epochs' else None,
        'minutes_per_epoch': seconds * per_epoch / 60,
        'total_hours': seconds * total / 3600,
        'device': record['device'],
        'versions': record['versions'],
        'commit': record['commit'],
    }


def timed_iterations(item: Item, args: argparse.Namespace) -> int:
    """With as many sub-networks an iteration as all of the training has: with every=k a multiple of k."""
    every = with_preset(dict(item.cfg.model.gradaug)).get('every', 1) if item.is_gradaug else 1
    return -(-args.iterations // every) * every


def between(windows: Sequence[dict[str, Any]], after: int, last: int) -> list[dict[str, Any]]:
    """The windows of a run's record whose iterations are all in (after, last]."""
    starts = [0, *(window['iteration'] for window in windows)]
    return [w for w, start in zip(windows, starts) if after <= start and w['iteration'] <= last]


def share_of_phase(hook: Any, per_epoch: int, total: int) -> float:
    """Which part of a training of ``total`` iterations GradAugHook gives sub-networks."""
    unit = per_epoch if hook.get('by_epoch', True) else 1
    begin = hook.get('begin', 0) * unit
    end = total if hook.get('end') is None else min(hook['end'] * unit, total)
    return max(end - begin, 0) / total


def timed_config(item: Item, args: argparse.Namespace) -> Any:
    """A config of some iterations, without evaluations, checkpoints and schedules.

    Raises:
        UserError: --random-images does not know the data set.
    """
    cfg = type(item.cfg)(item.cfg.to_dict())
    number = timed_iterations(item, args)
    iterations = WARM_UP + number
    begin = iterations if item.phase else 0  # as many without sub-networks before them
    iterations += number if item.phase else 0
    for hook in cfg.get('custom_hooks') or ():
        if short_name(hook) == 'GradAugHook':
            hook.update(begin=begin, end=None, by_epoch=False)
    cfg.train_cfg = dict(
        type='IterBasedTrainLoop', max_iters=iterations, val_interval=iterations + 1
    )
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.test_cfg = cfg.test_dataloader = cfg.test_evaluator = None
    cfg.param_scheduler = None
    cfg.default_hooks = dict(
        checkpoint=None,
        run_record=dict(type='mmgradaug.RunRecordHook'),
        logger=dict(type='LoggerHook'),
    )
    cfg.log_processor = dict(by_epoch=False)
    if args.batch_size:
        cfg.train_dataloader.batch_size = args.batch_size
    if args.random_images:
        dataset = cfg.train_dataloader.dataset
        name = short_name(dataset)
        if name not in IMAGES:
            raise UserError(f'--random-images knows {", ".join(IMAGES)}, not {name}')
        steps = [step for step in dataset.pipeline if short_name(step) != 'LoadImageFromFile']
        size = (500, 375) if name == 'ImageNet' else (32, 32)
        classes = cfg.model.head.num_classes
        cfg.train_dataloader.dataset = dict(
            type='mmgradaug.RandomImages', size=size, num_classes=classes, pipeline=steps
        )
    return cfg
