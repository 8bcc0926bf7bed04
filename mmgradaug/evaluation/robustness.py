"""``mmgradaug robustness``: errors on ImageNet-C, or on test images corrupted like it (Table 8)."""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Optional

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from mmgradaug.config_types import short_name
from mmgradaug.files import UserError, short, write_json
from mmgradaug.grids import show
from mmgradaug.pictures import save

from .corrupted_sets import Readable, Sets
from .corruption_error import corruption_errors, mean_corruption_error
from .shown import (
    CORRUPTIONS,
    IMAGENET_CLASSES,
    SEVERITIES,
    SOURCES,
    name_of,
    robustness_figure,
    robustness_grid,
    severity_grid,
    source_of,
)
from .trained_classifier import (
    CONSOLE,
    TrainedClassifier,
    load_classifier,
    read_results,
    results_beside,
)

KIND = 'robustness'
Set = tuple[str, int]  # corruption and severity


def sets_of(args: argparse.Namespace) -> list[Set]:
    return [
        (c, s) for c in CORRUPTIONS if c in args.corruptions for s in sorted(set(args.severities))
    ]


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
            pipeline=list(map(step_in_words, pipeline)),
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
        write_json(self.file, self.data)


def step_in_words(step: dict[str, Any]) -> str:
    """CenterCrop(crop_size=224), of the step's config."""
    options = (f'{key}={value}' for key, value in step.items() if key != 'type')
    # The corruption and its severity are another one in each set.
    return (
        f'{short_name(step)}({", ".join(options)})' if short_name(step) != 'Corrupt' else 'Corrupt'
    )


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


def run(args: argparse.Namespace) -> None:
    """The command. Raises UserError if it cannot be done, or if official sets are missing."""
    classifier = load_classifier(args)
    others = results_beside(classifier, args.compare, KIND)
    args.num_classes = classifier.cfg.model.head.get('num_classes', IMAGENET_CLASSES)
    sets = Sets(classifier, args)
    out = args.out or Path('work_dirs') / 'robustness' / classifier.name
    results = Results(out / 'robustness.json', classifier, args, sets.pipeline())
    for other in others:
        if source_of(other) != source_of(results.data):
            raise UserError(
                f'--compare: {name_of(other)} was tested on other images ({SOURCES[source_of(other)]}; '
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
    show(severity_grid(results.data))
    show(robustness_grid(found))
    if any(data['sets'] for data in found):
        save(robustness_figure(found), out / 'robustness.png')
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

            def advance(share: float, start: int = before) -> None:
                progress.update(task, completed=start + share)

            dataset = sets.get(corruption, severity)
            found = error_of(classifier, dataset, args.max_images, what, advance)
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
    """The config's test set.

    Raises:
        UserError: it is not there; the message says what to do without it.
    """
    try:
        return classifier.test_set()
    except UserError as error:
        if args.imagenet_c or args.cifar_c:
            raise UserError(f'{error}\nWithout the clean images: --no-clean') from error
        raise
