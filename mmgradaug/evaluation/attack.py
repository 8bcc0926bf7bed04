"""``mmgradaug fgsm``: accuracy under the fast gradient sign method, as in Table 9."""

import argparse
import itertools
from collections.abc import Sequence
from typing import Any

import torch
from rich.progress import track
from torch import Tensor

from mmgradaug.files import short, write_json
from mmgradaug.grids import show
from mmgradaug.pictures import save

from .fast_gradient_sign import fgsm, loss_gradient
from .shown import fgsm_figure, fgsm_grids
from .trained_classifier import (
    CONSOLE,
    TrainedClassifier,
    load_classifier,
    result_file,
    results_beside,
)

KIND = 'fgsm'


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
            variant_name(*variant): [100.0 * correct[variant, eps] / number for eps in epsilons]
            for variant in variants
        },
    )


def variant_name(space: str, clamp: bool) -> str:
    return f'{space}, {"clamped" if clamp else "not clamped"}'


def run(args: argparse.Namespace) -> None:
    """The command. Raises UserError if it cannot be done."""
    classifier = load_classifier(args)
    others = results_beside(classifier, args.compare, KIND)
    file = result_file(args, classifier.name, KIND, KIND)
    epsilons = sorted(set(args.eps))
    clamps = [answer == 'yes' for answer in dict.fromkeys(args.clamp)]
    variants = list(itertools.product(dict.fromkeys(args.space), clamps))
    found = attack(classifier, epsilons, variants, args.max_images)
    result = dict(kind=KIND, model=classifier.identity, eps=epsilons, **found)
    write_json(file, result)
    results = [result, *others]
    for grid in fgsm_grids(results):
        show(grid)
    save(fgsm_figure(results), file.with_suffix('.png'))
    print(f'\nWritten to {short(file.parent)}: fgsm.json, fgsm.png')
