#!/usr/bin/env python
"""Accuracy under the fast gradient sign method, as in Table 9."""

import argparse
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

import torch
from result_pictures import draw_panels
from rich.progress import track
from torch import Tensor
from trained_classifier import (
    CONSOLE,
    TrainedClassifier,
    add_model_arguments,
    add_result_arguments,
    load_classifier,
    results_beside,
    write_whole,
)
from training_runs import UserError, in_columns, run_tool, short

from mmgradaug.evaluation import fgsm, loss_gradient
from mmgradaug.evaluation.fgsm import SPACES

KIND = 'fgsm'
EPSILONS = (0.05, 0.10, 0.15, 0.20, 0.25)  # Table 9


def normalisation(classifier: TrainedClassifier, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of the preprocessor, (C, 1, 1), for pixels of 0 to 255."""
    preprocessor = classifier.model.data_preprocessor
    if getattr(preprocessor, '_enable_normalize', False):
        return preprocessor.mean, preprocessor.std
    shape = (inputs.shape[1], 1, 1)
    return inputs.new_zeros(shape), inputs.new_ones(shape)


def attack(
    classifier: TrainedClassifier,
    epsilons: Sequence[float],
    variants: Sequence[tuple[str, bool]],
    max_images: int,
) -> dict[str, Any]:
    """Top-1 in per cent: clean, and of each variant for each epsilon."""
    loader = classifier.loader(classifier.test_set(), max_images)
    correct = dict.fromkeys(itertools.product(variants, epsilons), 0)
    clean = number = 0
    batches = classifier.batches(loader)
    for inputs, labels in track(batches, 'FGSM', total=len(loader), console=CONSOLE):
        mean, std = normalisation(classifier, inputs)
        gradient = loss_gradient(classifier.logits, inputs, labels)
        with torch.no_grad():
            clean += int((classifier.logits(inputs).argmax(1) == labels).sum())
            for (space, clamp), eps in correct:
                moved = fgsm(inputs, gradient, eps, mean, std, space, clamp)
                right = int((classifier.logits(moved).argmax(1) == labels).sum())
                correct[(space, clamp), eps] += right
        number += len(labels)
    return dict(
        images=number,
        clean=100.0 * clean / number,
        top1={
            name(*variant): [100.0 * correct[variant, eps] / number for eps in epsilons]
            for variant in variants
        },
    )


def name(space: str, clamp: bool) -> str:
    return f'{space}, {"clamped" if clamp else "not clamped"}'


def test_fgsm(args: argparse.Namespace) -> None:
    """Raises UserError if it cannot be done."""
    classifier = load_classifier(args)
    others = results_beside(classifier, args.compare, KIND)
    out = args.out or Path('work_dirs') / 'fgsm' / classifier.name
    file = out / 'fgsm.json'
    if file.exists() and not args.overwrite:
        raise UserError(f'{short(file)} is there already: use another --out, or --overwrite')
    epsilons = sorted(set(args.eps))
    clamps = [dict(yes=True, no=False)[answer] for answer in dict.fromkeys(args.clamp)]
    variants = list(itertools.product(dict.fromkeys(args.space), clamps))
    found = attack(classifier, epsilons, variants, args.max_images)
    result = dict(kind=KIND, model=classifier.identity, eps=epsilons, **found)
    write_whole(file, json.dumps(result, indent=1) + '\n')
    results = [result, *others]
    print(told(results))
    draw(results, out / 'fgsm.png')
    print(f'\nWritten to {short(out)}: fgsm.json, fgsm.png')


def told(results: Sequence[dict[str, Any]]) -> str:
    """A table for each variant, as Table 9: models in lines, epsilons in columns."""
    parts = []
    for variant in results[0]['top1']:
        mine = [result for result in results if variant in result['top1']]
        epsilons = sorted({eps for result in mine for eps in result['eps']})
        lines: list[Sequence[str]] = [('', 'images', 'clean', *(f'{eps:g}' for eps in epsilons))]
        for result in mine:
            top1 = dict(zip(result['eps'], result['top1'][variant]))
            cells = (f'{top1[eps]:.2f}' if eps in top1 else '-' for eps in epsilons)
            lines.append(
                (result['model']['name'], str(result['images']), f'{result["clean"]:.2f}', *cells)
            )
        parts.append(f'Top-1 %, epsilon in {variant}\n{in_columns(lines)}')
    parts.append(
        'White box, true labels, the network in eval mode. Pixel: epsilon for pixels in [0, 1]; normalised: for\n'
        'the preprocessed image. The paper does not say which its Table 9 has, nor whether it clamps.'
    )
    return '\n\n'.join(parts)


def draw(results: Sequence[dict[str, Any]], file: Path) -> None:
    panels = []
    for variant in results[0]['top1']:
        curves = [
            (r['model']['name'], [(0.0, r['clean']), *zip(r['eps'], r['top1'][variant])])
            for r in results
            if variant in r['top1']
        ]
        panels.append((variant, curves))
    draw_panels(file, panels, 'epsilon', 'top-1 %', 'Accuracy under FGSM', columns=2)


def _epsilon(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value < float('inf'):
        raise argparse.ArgumentTypeError(f'an epsilon is 0 or more, got {text!r}')
    return value


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description='Attack the test images of a classifier by the fast gradient sign method (Table 9): white box,\n'
        'true labels. The paper does not say in which space its epsilons are, nor whether pixels are kept in\n'
        'their range; all four readings are tested by default, from one gradient an image.',
        epilog='example:\n  tools/test_fgsm.py CONFIG CHECKPOINT --eps 0.05 0.10 --compare work_dirs/fgsm/*/fgsm.json',
    )
    add_model_arguments(parser)
    parser.add_argument(
        '--eps',
        type=_epsilon,
        nargs='+',
        default=EPSILONS,
        metavar='E',
        help=f"severities (default: {' '.join(f'{eps:g}' for eps in EPSILONS)}, the paper's)",
    )
    parser.add_argument(
        '--space',
        nargs='+',
        choices=SPACES,
        default=SPACES,
        help='what epsilon is for: pixels in [0, 1], or the preprocessed image (default: both)',
    )
    parser.add_argument(
        '--clamp',
        nargs='+',
        choices=('yes', 'no'),
        default=('yes', 'no'),
        help='whether attacked pixels are kept in [0, 255] (default: both)',
    )
    add_result_arguments(parser, 'fgsm')
    return parser.parse_args(argv)


def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse_args(argv)
    return run_tool('fgsm', lambda: test_fgsm(args), 'nothing was written')


if __name__ == '__main__':
    raise SystemExit(main())
