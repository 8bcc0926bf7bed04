#!/usr/bin/env python
"""Accuracy over width: every sub-network of one checkpoint, with statistics of its own."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

from extract_subnetwork import plan, take_out
from result_pictures import draw_panels
from rich.progress import track
from trained_classifier import (
    CONSOLE,
    add_model_arguments,
    add_result_arguments,
    load_classifier,
    positive,
    results_beside,
    width_of,
    write_whole,
)
from training_runs import UserError, in_columns, run_tool, short

from mmgradaug.slimming import recalibrate_statistics

KIND = 'width_curve'
WIDTHS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)
OWN, FULL = 'own statistics', "the full network's statistics"


def width_curve(args: argparse.Namespace) -> None:
    """Raises UserError if it cannot be done."""
    classifier = load_classifier(args, stock=True)
    others = results_beside(classifier, args.compare, KIND)
    out = args.out or Path('work_dirs') / 'width_curves' / classifier.name
    file = out / 'width_curve.json'
    if file.exists() and not args.overwrite:
        raise UserError(f'{short(file)} is there already: use another --out, or --overwrite')
    images = classifier.training_images(args.recalibrate)
    plan(classifier, images[0])
    loader = classifier.loader(classifier.test_set(), args.max_images)
    points = []
    for width in sorted(set(args.widths)):
        small = take_out(classifier, width)
        title = f'width {width:g}'
        before = classifier.accuracy(small, loader, f'{title}, {FULL}')
        recalibrate_statistics(small, track(images, f'{title}, measuring', console=CONSOLE))
        after = classifier.accuracy(small, loader, f'{title}, {OWN}')
        parameters = sum(p.numel() for p in small.parameters())
        points.append(
            dict(width=width, parameters=parameters, recalibrated=after, full_statistics=before)
        )
    result = dict(
        kind=KIND,
        model=classifier.identity,
        training_images=sum(len(batch) for batch in images),
        test_images=len(loader.dataset),
        points=points,
    )
    write_whole(file, json.dumps(result, indent=1) + '\n')
    results = [result, *others]
    print(told(results))
    draw(results, out / 'width_curve.png')
    print(f'\nWritten to {short(out)}: width_curve.json, width_curve.png')


def told(results: Sequence[dict[str, Any]]) -> str:
    """The models side by side."""
    by_width = [{point['width']: point for point in result['points']} for result in results]
    names = [result['model']['name'] for result in results]
    head = ['width', *(f'{name}: {what}' for name in names for what in (OWN, FULL))]
    lines = [head]
    for width in sorted({width for points in by_width for width in points}):
        cells = []
        for points in by_width:
            point = points.get(width)
            for key in ('recalibrated', 'full_statistics'):
                cells.append(f'{point[key]:.2f}' if point else '-')
        lines.append([f'{width:g}', *cells])
    return (
        f'Top-1 % of sub-networks\n{in_columns(lines)}\n'
        f'Own statistics: batch norms measured anew on {results[0]["training_images"]} training images.'
    )


def draw(results: Sequence[dict[str, Any]], file: Path) -> None:
    panels = [
        (
            heading,
            [
                (r['model']['name'], [(point['width'], point[key]) for point in r['points']])
                for r in results
            ],
        )
        for key, heading in (('recalibrated', OWN), ('full_statistics', FULL))
    ]
    draw_panels(file, panels, 'width', 'top-1 %', 'Accuracy of sub-networks over width')


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description='Test sub-networks of several widths of one checkpoint, each with batch norm statistics of its\n'
        "own and with the full network's; table, JSON and a picture. Any classifier's checkpoint will do: one\n"
        'that was trained without GradAug shows what its first channels are worth alone.',
        epilog='example:\n  tools/width_curve.py CONFIG CHECKPOINT --compare work_dirs/width_curves/*/width_curve.json',
    )
    add_model_arguments(parser)
    parser.add_argument(
        '--widths',
        type=width_of,
        nargs='+',
        default=WIDTHS,
        metavar='W',
        help=f'in (0, 1] (default: {" ".join(f"{w:g}" for w in WIDTHS)})',
    )
    parser.add_argument(
        '--recalibrate',
        type=positive,
        default=2048,
        metavar='N',
        help='training images for the statistics, in whole batches (default: %(default)s)',
    )
    add_result_arguments(parser, 'width_curves')
    return parser.parse_args(argv)


def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse_args(argv)
    return run_tool('width curve', lambda: width_curve(args), 'nothing was written')


if __name__ == '__main__':
    raise SystemExit(main())
