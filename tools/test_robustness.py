#!/usr/bin/env python
"""Errors on ImageNet-C, or on test images corrupted like it (Table 8)."""

import argparse
import copy
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Optional

import torch
from result_pictures import COLOURS, MARKERS, save
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from trained_classifier import (
    CONSOLE,
    TrainedClassifier,
    add_model_arguments,
    add_result_arguments,
    load_classifier,
    read_results,
    results_beside,
    write_whole,
)
from training_runs import UserError, in_columns, run_tool, short

from mmgradaug.config_types import short_name
from mmgradaug.datasets import (
    CORRUPTIONS,
    SEVERITIES,
    Corrupt,
    cifar_c_file,
    imagenet_c_folder,
)
from mmgradaug.evaluation import corruption_errors, mean_corruption_error
from mmgradaug.wrapped_datasets import evenly_spread

KIND = 'robustness'
# As Table 8 heads its columns.
SHORT = dict(
    zip(
        CORRUPTIONS,
        'Gauss Shot Impulse Defocus Glass Motion Zoom Snow Frost Fog Bright Contrast Elastic Pixel JPEG'.split(),
    )
)
# Where the corrupted images are from, as results name it, and as pictures do.
SOURCES = dict(
    imagenet_c='ImageNet-C',
    cifar_c='CIFAR-10-C or CIFAR-100-C',
    seed='Test images corrupted like ImageNet-C (not its official files)',
)
IMAGENET_CLASSES = 1000  # AlexNet's errors are of them
RESIZING = ('Resize', 'ResizeEdge')
Set = tuple[str, int]  # corruption and severity


def sets_of(args: argparse.Namespace) -> list[Set]:
    return [
        (c, s) for c in CORRUPTIONS if c in args.corruptions for s in sorted(set(args.severities))
    ]


class Sets:
    """Makes the images of one set after the other.

    Raises:
        UserError: the config has no test set with a pipeline of its own.
    """

    def __init__(self, classifier: TrainedClassifier, args: argparse.Namespace) -> None:
        self.classifier, self.args = classifier, args
        self.corrupted: Optional[Any] = None
        dataset = (classifier.cfg.get('test_dataloader') or {}).get('dataset')
        if dataset is None or 'pipeline' not in dataset:
            raise UserError(
                f'{classifier.config}: '
                + ('there is no test set' if dataset is None else f'{dataset.type} has no pipeline')
                + '. Corruptions are put into test_dataloader.dataset.pipeline: write the data set '
                'there itself, without a wrapper'
            )
        self.cfg = copy.deepcopy(dataset.to_dict())
        self.loads = any(short_name(step) == 'LoadImageFromFile' for step in self.cfg['pipeline'])
        # A preprocessor turns BGR, which MMCV loads, into RGB.
        self.to_rgb = bool(getattr(classifier.model.data_preprocessor, 'to_rgb', False))

    def get(self, corruption: str, severity: int) -> Any:
        """A dataset: the official images, or the config's test set with a corrupting step."""
        if self.args.imagenet_c or self.args.cifar_c:
            try:
                return self.classifier.test_set(self.official(corruption, severity))
            except ValueError as error:  # of arrays that are not what they should be
                raise UserError(str(error)) from error
        if self.corrupted is None:  # built once: of big sets that takes a while
            self.corrupted = self.classifier.test_set(self.corrupting(corruption, severity))
            self.corrupted = evenly_spread(self.corrupted, self.args.max_images)
        (step,) = (s for s in self.corrupted.pipeline.transforms if isinstance(s, Corrupt))
        step.corruption, step.severity = corruption, severity
        return self.corrupted

    def official(self, corruption: str, severity: int) -> dict[str, Any]:
        """The dataset's config, with as much of the config's pipeline as fits its images."""
        return dict(
            type='mmgradaug.ImageNetC' if self.args.imagenet_c else 'mmgradaug.CIFARC',
            data_root=str(self.args.imagenet_c or self.args.cifar_c),
            corruption=corruption,
            severity=severity,
            num_classes=self.args.num_classes,
            serialize_data=False,
            pipeline=self.for_files() if self.args.imagenet_c else self.for_arrays(),
        )

    def for_files(self) -> list[dict[str, Any]]:
        """ImageNet-C's images have 224 pixels already, so they are not resized again."""
        steps = [step for step in self.cfg['pipeline'] if short_name(step) not in RESIZING]
        steps = [
            # It resizes what it has cropped.
            dict(type='CenterCrop', crop_size=step['crop_size'])
            if short_name(step) == 'EfficientNetCenterCrop'
            else step
            for step in steps
        ]
        if self.loads:
            return steps
        # The config's data set hands images out itself, in the order that the network takes.
        to_rgb = [] if self.to_rgb else reordered(from_bgr=True)
        return [dict(type='LoadImageFromFile'), *to_rgb, *steps]

    def for_arrays(self) -> list[dict[str, Any]]:
        """CIFAR-C's images are arrays in RGB order, like those of MMPretrain's CIFAR10."""
        steps = [step for step in self.cfg['pipeline'] if short_name(step) != 'LoadImageFromFile']
        return [*(reordered(from_bgr=False) if self.loads or self.to_rgb else []), *steps]

    def corrupting(self, corruption: str, severity: int) -> dict[str, Any]:
        """After resizing and cropping, as ImageNet-C was made."""
        cfg = copy.deepcopy(self.cfg)
        packing = [i for i, s in enumerate(cfg['pipeline']) if short_name(s).startswith('Pack')]
        step = dict(
            type='mmgradaug.Corrupt',
            corruption=corruption,
            severity=severity,
            seed=self.args.seed,
            bgr=self.loads or self.to_rgb,
        )
        cfg['pipeline'].insert(packing[0] if packing else len(cfg['pipeline']), step)
        return cfg

    def pipeline(self) -> list[dict[str, Any]]:
        """Of corrupted images."""
        official = self.args.imagenet_c or self.args.cifar_c
        made = self.official if official else self.corrupting
        return made(CORRUPTIONS[0], SEVERITIES[0])['pipeline']

    def present(self, corruption: str, severity: int) -> bool:
        """Whether the official files have it; raise UserError if they are for another network."""
        try:
            if self.args.imagenet_c:
                imagenet_c_folder(self.args.imagenet_c, corruption, severity, self.args.num_classes)
            elif self.args.cifar_c:
                cifar_c_file(self.args.cifar_c, corruption, self.args.num_classes)
        except FileNotFoundError:
            return False
        except ValueError as error:
            raise UserError(str(error)) from error
        return True


def reordered(from_bgr: bool) -> list[dict[str, Any]]:
    """MMPretrain's steps that turn BGR into RGB, or RGB into BGR."""
    return [
        dict(type='NumpyToPIL', to_rgb=from_bgr),
        dict(type='PILToNumpy', to_bgr=not from_bgr),
    ]


class Readable:
    """Batches of a loader, whose errors are the user's: broken files, images that cannot be corrupted."""

    def __init__(self, loader: Any, what: str) -> None:
        self.loader, self.what = loader, what

    def __iter__(self) -> Iterator[Any]:
        try:
            yield from self.loader
        except (AssertionError, OSError, ValueError, ImportError) as error:
            # Of a worker's error the last line; before it are the lines of code.
            reason = str(error).strip().splitlines()[-1:]
            raise UserError(f'{self.what}: an image cannot be used: {"".join(reason)}') from error


def error_of(
    classifier: TrainedClassifier,
    dataset: Any,
    limit: int,
    what: str,
    advance: Callable[[float], object] = lambda share: None,
) -> dict[str, Any]:
    """Top-1 error as a fraction, and of how many images.

    Args:
        classifier, dataset: of which the error is.
        limit: test on as many images; 0 for all.
        what: names the dataset in messages.
        advance: told what share is done, after each batch.

    Raises:
        UserError: an image cannot be read, or corrupted.
    """
    loader = classifier.loader(dataset, limit)
    wrong = number = 0
    with torch.no_grad():
        for inputs, labels in classifier.batches(Readable(loader, what)):
            wrong += int((classifier.logits(inputs).argmax(1) != labels).sum())
            number += len(labels)
            advance(number / len(dataset))
    return dict(error=wrong / number, images=number)


class Results:
    """robustness.json: rewritten after each set, so that nothing is lost."""

    def __init__(
        self,
        file: Path,
        classifier: TrainedClassifier,
        args: argparse.Namespace,
        pipeline: list[dict[str, Any]],
    ) -> None:
        self.file = file
        folder = args.imagenet_c or args.cifar_c
        source: dict[str, Any] = dict(seed=args.seed)
        if folder:
            source = {'imagenet_c' if args.imagenet_c else 'cifar_c': str(folder.resolve())}
        setting = dict(
            source=source,
            test_set=json.loads(
                json.dumps(classifier.cfg.test_dataloader.dataset.to_dict(), default=str)
            ),
            max_images=args.max_images,
        )
        self.data: dict[str, Any] = dict(
            kind=KIND,
            model=classifier.identity,
            setting=setting,
            classes=args.num_classes,
            pipeline=list(map(told_step, pipeline)),
            clean=None,
            sets={},
        )
        if file.exists() and not args.overwrite:
            old = read_results([file], KIND)[0]
            for what, mine, its in (
                ('other weights', self.data['model']['weights'], old['model']['weights']),
                ('other data or settings', setting, old['setting']),
            ):
                if mine != its:
                    raise UserError(
                        f'{short(file)} is of {what}: use another --out or --name, or --overwrite'
                    )
            self.data.update(clean=old['clean'], sets=old['sets'])

    def get(self, corruption: str, severity: int) -> Optional[dict[str, Any]]:
        return self.data['sets'].get(corruption, {}).get(str(severity))

    def put(self, corruption: str, severity: int, found: dict[str, Any]) -> None:
        self.data['sets'].setdefault(corruption, {})[str(severity)] = found

    def write(self) -> None:
        # In the order of the table, whatever was tested first.
        sets = self.data['sets']
        self.data['sets'] = {
            c: {str(s): sets[c][str(s)] for s in SEVERITIES if str(s) in sets[c]}
            for c in CORRUPTIONS
            if c in sets
        }
        self.data.update(summary(self.data))
        write_whole(self.file, json.dumps(self.data, indent=1) + '\n')


def told_step(step: dict[str, Any]) -> str:
    """CenterCrop(crop_size=224), of the step's config."""
    options = (f'{key}={value}' for key, value in step.items() if key != 'type')
    # The corruption and its severity are another one in each set.
    return (
        f'{short_name(step)}({", ".join(options)})' if short_name(step) != 'Corrupt' else 'Corrupt'
    )


def source_of(data: dict[str, Any]) -> str:
    """A key of SOURCES."""
    return next(name for name in SOURCES if name in data['setting']['source'])


def summary(data: dict[str, Any]) -> dict[str, Any]:
    """Mean error over all 75 sets in per cent, and of ImageNet-C's own images mCE; None while a set is missing."""
    missing = [
        f'{c} {s}' for c in CORRUPTIONS for s in SEVERITIES if str(s) not in data['sets'].get(c, {})
    ]
    mean = ces = mce = None
    if not missing:
        by_corruption = {
            c: [data['sets'][c][str(s)]['error'] for s in SEVERITIES] for c in CORRUPTIONS
        }
        mean = 100 * statistics.mean(statistics.mean(values) for values in by_corruption.values())
        if source_of(data) == 'imagenet_c':
            ces = corruption_errors(by_corruption)
            mce = mean_corruption_error(ces)
    return dict(missing=missing, mean_error=mean, corruption_errors=ces, mce=mce)


def test_robustness(args: argparse.Namespace) -> None:
    """Raises UserError if it cannot be done, or if official sets are missing."""
    classifier = load_classifier(args)
    others = results_beside(classifier, args.compare, KIND)
    args.num_classes = classifier.cfg.model.head.get('num_classes', IMAGENET_CLASSES)
    sets = Sets(classifier, args)
    out = args.out or Path('work_dirs') / 'robustness' / classifier.name
    results = Results(out / 'robustness.json', classifier, args, sets.pipeline())
    for other in others:
        if source_of(other) != source_of(results.data):
            raise UserError(
                f'--compare: {other["model"]["name"]} was tested on other images ({SOURCES[source_of(other)]}; '
                f'here: {SOURCES[source_of(results.data)]}), so the errors do not compare'
            )
    todo, absent = [], []
    for one in sets_of(args):
        if not sets.present(*one):
            absent.append(f'{one[0]} {one[1]}')
        elif results.get(*one) is None:
            todo.append(one)
    official = args.imagenet_c or args.cifar_c
    if len(absent) == len(sets_of(args)):
        raise UserError(
            f'there is no set of ImageNet-C in {official}: it has to have gaussian_noise/1/n01440764/..., or '
            'noise/gaussian_noise/1/...'
            if args.imagenet_c
            else f'there is no set of CIFAR-10-C in {official}: it has to have gaussian_noise.npy, ..., and labels.npy'
        )
    run_sets(classifier, sets, results, todo, args)
    found = [results.data, *others]
    print(told(found))
    if any(data['sets'] for data in found):
        draw(found, out / 'robustness.png')
    print(f'\nWritten to {short(out)}: robustness.json, robustness.png')
    if absent:
        raise UserError(
            f'{official} lacks {len(absent)} sets, so there is no {"mCE" if args.imagenet_c else "mean"}: '
            f'{", ".join(absent)}. Extract them and '
            'type the same command again; what is there has been tested'
        )


def run_sets(
    classifier: TrainedClassifier,
    sets: Sets,
    results: Results,
    todo: Sequence[Set],
    args: argparse.Namespace,
) -> None:
    """The clean images and the sets that are left, each kept as soon as it is done."""
    done = sum(len(by_severity) for by_severity in results.data['sets'].values())
    if done:
        print(f'{done} sets were tested before.', flush=True)
    if todo:  # what cannot work with the first image fails before an hour of clean images
        next(iter(Readable(sets.get(*todo[0]), ' '.join(map(str, todo[0])))), None)
    clean = results.data['clean'] is None and not args.no_clean
    columns = (
        TextColumn('{task.description}'),
        BarColumn(),
        TextColumn('{task.completed:.1f} of {task.total} sets'),
    )
    with Progress(*columns, TimeRemainingColumn(), console=CONSOLE) as progress:
        task = progress.add_task('clean images', total=len(todo) + clean)
        if clean:
            results.data['clean'] = error_of(
                classifier,
                clean_images(classifier, args),
                args.max_images,
                'clean images',
                lambda share: progress.update(task, completed=share),
            )
            results.write()
        started = time.monotonic()
        for number, (corruption, severity) in enumerate(todo):
            what = f'{corruption} {severity}'
            before = number + clean
            progress.update(task, description=what, completed=before)
            found = error_of(
                classifier,
                sets.get(corruption, severity),
                args.max_images,
                what,
                lambda share, before=before: progress.update(task, completed=before + share),
            )
            sizes = {f['images'] for by in results.data['sets'].values() for f in by.values()}
            if sizes - {found['images']}:
                raise UserError(
                    f'{what} has {found["images"]} images, the sets before have {sizes.pop()}: '
                    'one of them is incomplete. It was not kept'
                )
            results.put(corruption, severity, found)
            results.write()
            if not CONSOLE.is_terminal:
                left = (time.monotonic() - started) / (number + 1) * (len(todo) - number - 1)
                print(
                    f'[{number + 1}/{len(todo)}] {what}: {100 * found["error"]:.2f} % error; '
                    f'about {left / 60:.1f} min left',
                    flush=True,
                )
    results.write()


def clean_images(classifier: TrainedClassifier, args: argparse.Namespace) -> Any:
    """The config's test set; exit, with what to do without it, if it is not there."""
    try:
        return classifier.test_set()
    except SystemExit as stop:
        if args.imagenet_c or args.cifar_c:
            sys.exit(f'{stop}\nWithout the clean images: --no-clean')
        raise


def by_corruption(data: dict[str, Any], corruption: str) -> Optional[float]:
    """Error in per cent, mean over the severities; None unless all are there."""
    found = data['sets'].get(corruption, {})
    if len(found) < len(SEVERITIES):
        return None
    return 100 * statistics.mean(one['error'] for one in found.values())


def by_severity(data: dict[str, Any], severity: int) -> Optional[float]:
    """Error in per cent, mean over the corruptions; None unless all are there."""
    found = [data['sets'].get(c, {}).get(str(severity)) for c in CORRUPTIONS]
    return None if None in found else 100 * statistics.mean(one['error'] for one in found)


def _cell(value: Optional[float], digits: int = 2) -> str:
    return '-' if value is None else f'{value:.{digits}f}'


def told(results: Sequence[dict[str, Any]]) -> str:
    """Severity by severity the new model's errors; then all models as in Table 8."""
    mine = results[0]
    lines: list[Sequence[str]] = [('', *map(str, SEVERITIES), 'mean', 'CE')]
    for corruption, found in mine['sets'].items():
        cells = [found.get(str(s)) for s in SEVERITIES]
        ce = (mine['corruption_errors'] or {}).get(corruption)
        errors = (_cell(one and 100 * one['error']) for one in cells)
        lines.append((corruption, *errors, _cell(by_corruption(mine, corruption)), _cell(ce, 1)))
    parts = [f'{mine["model"]["name"]}: top-1 error in % by severity\n{in_columns(lines)}']

    official = all(data['corruption_errors'] for data in results)
    last = 'mCE' if official else 'mean'
    lines = [('', 'clean', *SHORT.values(), last)]
    for data in results:
        clean = data['clean'] and 100 * data['clean']['error']
        if official:
            cells = [_cell(data['corruption_errors'][c], 0) for c in CORRUPTIONS]
            cells.append(_cell(data['mce'], 1))
        else:
            cells = [_cell(by_corruption(data, c), 1) for c in CORRUPTIONS]
            cells.append(_cell(data['mean_error'], 1))
        lines.append((data['model']['name'], _cell(clean, 1), *cells))
    what = (
        "corruption errors, in % of AlexNet's"
        if official
        else 'top-1 errors in %, mean over severities'
    )
    parts.append(f'{what[0].upper()}{what[1:]}\n{in_columns(lines)}')
    images = next((f['images'] for by in mine['sets'].values() for f in by.values()), 0)
    notes = [f'{images} images a set, through {" > ".join(mine["pipeline"])}.']
    source = source_of(mine)
    if source == 'seed':
        notes.append(
            'The test images were corrupted here, with the constants of ImageNet-C: NOT comparable with results on\n'
            "the official files of ImageNet-C or CIFAR-10-C, and not normalised by AlexNet's errors."
        )
    elif source == 'cifar_c':
        notes.append("Official images of CIFAR-C; the mean is not normalised by AlexNet's errors.")
    elif mine['mce'] is None:
        notes.append(
            f'No mCE: {len(mine["missing"])} of 75 sets were not tested ({_some(mine["missing"])}).'
        )
    elif mine['classes'] != IMAGENET_CLASSES:
        notes.append(
            f"AlexNet's errors are of ImageNet's {IMAGENET_CLASSES} classes, this network has {mine['classes']}: "
            'NOT comparable with\npublished mCEs.'
        )
    if images and mine['setting']['max_images']:
        notes.append('A part of the images only (--max-images).')
    for other in results[1:]:
        theirs = next((f['images'] for by in other['sets'].values() for f in by.values()), 0)
        if theirs != images:
            notes.append(f'{other["model"]["name"]} was tested on {theirs} images a set.')
    return '\n\n'.join([*parts, '\n'.join(notes)])


def _some(names: Sequence[str]) -> str:
    return ', '.join(names[:5]) + (', ...' if len(names) > 5 else '')


def draw(results: Sequence[dict[str, Any]], file: Path) -> None:
    """Bars by corruption, curves by severity; a colour for each model."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot as plt

    figure, (bars, curves) = plt.subplots(
        1, 2, figsize=(13, 4.6), width_ratios=(3, 1), sharey=True, layout='constrained'
    )
    width = 0.8 / len(results)
    handles = []
    for i, data in enumerate(results):
        colour = COLOURS[i % len(COLOURS)]
        heights = [by_corruption(data, c) for c in CORRUPTIONS]
        where = [place + (i - (len(results) - 1) / 2) * width for place in range(len(CORRUPTIONS))]
        drawn = [(x, y) for x, y in zip(where, heights) if y is not None]
        name = data['model']['name']
        label = f'{name}, mCE {data["mce"]:.1f}' if data['mce'] is not None else name
        handles.append(
            bars.bar([x for x, _ in drawn], [y for _, y in drawn], width, color=colour, label=label)
        )
        points = [(s, y) for s in SEVERITIES if (y := by_severity(data, s)) is not None]
        if data['clean']:
            points.insert(0, (0, 100 * data['clean']['error']))
        if points:
            curves.plot(*zip(*points), color=colour, marker=MARKERS[i % len(MARKERS)], markersize=4)
    bars.set_xticks(range(len(CORRUPTIONS)), SHORT.values(), rotation=45, ha='right')
    bars.set_ylabel('top-1 error %')
    bars.set_title('mean over the five severities', fontsize=10)
    curves.set_xticks([0, *SEVERITIES], ['clean', *map(str, SEVERITIES)])
    curves.set_xlabel('severity')
    curves.set_title('mean over the fifteen corruptions', fontsize=10)
    for axis in (bars, curves):
        axis.grid(alpha=0.3, axis='y')
        axis.set_axisbelow(True)
    figure.suptitle(SOURCES[source_of(results[0])], fontsize=11)
    figure.legend(
        handles=handles, loc='outside lower center', ncols=min(len(handles), 5), frameon=False
    )
    save(figure, file)


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description='Test a classifier on ImageNet-C: 15 corruptions in 5 severities, each corruption error, clean\n'
        'error and mCE (Table 8); or on CIFAR-10-C or CIFAR-100-C. Without either the test images of the\n'
        'config are corrupted here instead; that is not comparable with the official images. Stopped, the\n'
        'same command goes on.',
        epilog='examples:\n'
        '  tools/test_robustness.py CONFIG CHECKPOINT --imagenet-c data/imagenet-c\n'
        '  tools/test_robustness.py CONFIG CHECKPOINT --compare work_dirs/robustness/baseline/robustness.json',
    )
    add_model_arguments(parser)
    official = parser.add_mutually_exclusive_group()
    official.add_argument(
        '--imagenet-c',
        type=Path,
        metavar='PATH',
        help='folder of the official images: gaussian_noise/1/n01440764/..., or noise/gaussian_noise/...',
    )
    official.add_argument(
        '--cifar-c',
        type=Path,
        metavar='PATH',
        help='folder CIFAR-10-C or CIFAR-100-C: gaussian_noise.npy, ..., labels.npy',
    )
    parser.add_argument(
        '--corruptions', nargs='+', choices=CORRUPTIONS, default=CORRUPTIONS, metavar='NAME',
        help=f'some of: {", ".join(CORRUPTIONS)} (default: all)',
    )  # fmt: skip
    parser.add_argument(
        '--severities', nargs='+', type=int, choices=SEVERITIES, default=SEVERITIES, metavar='S',
        help='some of 1 to 5 (default: all)',
    )  # fmt: skip
    parser.add_argument(
        '--seed', type=int, default=0, metavar='N', help='of corrupting images here (default: 0)'
    )
    parser.add_argument('--no-clean', action='store_true', help='leave the clean test images out')
    add_result_arguments(parser, 'robustness')
    args = parser.parse_args(argv)
    for flag, folder in (('--imagenet-c', args.imagenet_c), ('--cifar-c', args.cifar_c)):
        if folder and not folder.is_dir():
            parser.error(f'{flag}: no such folder: {folder}')
    return args


def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse_args(argv)
    stopped = 'the sets that were tested are kept, and the same command goes on'
    return run_tool('robustness', lambda: test_robustness(args), stopped)


if __name__ == '__main__':
    raise SystemExit(main())
