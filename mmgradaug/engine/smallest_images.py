"""The smallest images that sub-networks may be given, tried out before training."""

import copy
import logging
import math
from typing import Any, Callable, Optional

import numpy as np
import torch
from mmengine.runner import Runner
from torch import nn

from mmgradaug.slimming.planning import failing_layer, trial_copy
from mmgradaug.subnets import BatchOperation, BatchPart, SubnetSampler

from .placed_batches import TRIAL, draws_of, smallest_batch

# How often an image is loaded, as augmentation gives it several sizes, and how many draws of `transforms` are tried.
LOADS, DRAWS = 8, 64


def problem_of_smallest_images(
    runner: Runner, model: nn.Module, sampler: SubnetSampler, seed: int
) -> Optional[str]:
    """Why a sub-network would fail on the smallest images that it may be given, where the full network does not.

    The images of the training data with the least height, width and aspects (where the data say so, else the
    first) are loaded some times over, the smallest are transformed by the draw that makes the smallest of them,
    and a copy of the model goes through both passes of a step on the CPU. As few images are together as in the
    smallest batch. A fault of the full network's pass on its own images is left to the training, which names it.

    Args:
        model: a GradAug model, without a wrapper around it.
        sampler: of its sub-networks.
        seed: of the draws; what is drawn outside stays as it was.

    Returns:
        A sentence that says what to write; None where all is well, or the images cannot be told.
    """
    if runner.train_dataloader.batch_sampler is None:
        return None  # its data set gives whole batches
    fewest = smallest_batch(runner) or 2
    if sampler.batch_fraction < 1:
        fewest = len(BatchPart(sampler.batch_fraction, 0.0).indices(fewest))
    synchronised = any(isinstance(module, nn.SyncBatchNorm) for module in model.modules())
    # SyncBN's batch is that of all ranks.
    counts = (2, 1) if fewest == 1 and not synchronised else (2,)
    trial: Any = trial_copy(model, 'cpu')
    trial.train()
    collate = runner.train_dataloader.collate_fn
    with draws_of(seed, TRIAL), torch.no_grad():
        for item in _smallest_items(runner.train_dataloader.dataset):
            height, width = item['inputs'].shape[-2:]
            try:
                operation, size = _smallest_draw(sampler.transform, item['inputs'], seed)
            except Exception as error:
                return (
                    f'transforms cannot change images of {height} x {width} pixels, which the training data have '
                    f'({type(error).__name__}: {error}). Write others, or load images of another size'
                )
            for count in counts:
                failure = _failure(trial, collate, [item] * count, operation)
                if failure == '':
                    return None
                if failure is not None:
                    return _sentence(failure, count, size, type(model).__name__)
    return None


def _sentence(failure: str, count: int, size: tuple[int, int], name: str) -> str:
    what = (
        f'{name} cannot take {"a single image" if count == 1 else "images"} of {size[0]} x {size[1]} pixels, which '
        f'transforms may make of the smallest images that were found in the training data: {failure}'
    )
    if count == 1:
        return (
            'the last batch of an epoch, or the part of it that a sub-network sees, is of one image: write '
            f'train_dataloader.drop_last=True, or another train_dataloader.batch_size. {what}'
        )
    return (
        f'{what} Leave the smallest sizes or factors out of transforms, or load larger images (Resize in '
        'train_pipeline)'
    )


def _failure(
    trial: Any, collate: Callable[..., Any], items: list[Any], operation: BatchOperation
) -> Optional[str]:
    """What a sub-network's pass fails with; '' if it is the full network's, of more than one image."""
    of_full = True
    logging.disable(logging.WARNING)  # what is said of a batch is said in training
    try:
        with failing_layer(trial) as layer:
            data = collate([copy.deepcopy(item) for item in items])
            batch = trial.make_batch(**trial.data_preprocessor(data, True))
            outputs = trial(batch, mode='full_pass', record=True)[1]
            of_full = False
            trial(batch.transform(operation), mode='subnet_pass', recorded=outputs)
    except Exception as error:
        if of_full and len(items) > 1:
            return ''
        return f'{layer()} fails with {type(error).__name__}: {str(error).rstrip(".")}.'
    finally:
        logging.disable(logging.NOTSET)
    return None


def _smallest_items(dataset: Any) -> list[dict[str, Any]]:
    """Loaded images: those with the least shorter and the least longer side of all that were tried."""
    sizes = {}
    for index in range(len(dataset) if callable(getattr(dataset, 'get_data_info', None)) else 0):
        info = dataset.get_data_info(index)
        if 'height' not in info or 'width' not in info:
            break  # of a classifier: its pipeline mostly makes one size of all
        sizes[index] = (info['height'], info['width'])
    tried = {0}
    if sizes:
        for key in (
            lambda i: sizes[i][0],
            lambda i: sizes[i][1],
            lambda i: sizes[i][0] / sizes[i][1],
            lambda i: sizes[i][1] / sizes[i][0],
        ):
            tried.add(min(sizes, key=key))
    try:
        items = [dataset[index] for index in sorted(tried) for _ in range(LOADS)]
    except Exception:  # of an image that cannot be loaded, which the training names
        return []
    if not all(isinstance(i, dict) and isinstance(i.get('inputs'), torch.Tensor) for i in items):
        return []
    shapes = [tuple(item['inputs'].shape[-2:]) for item in items]
    return [items[i] for i in dict.fromkeys(shapes.index(min(shapes, key=k)) for k in (min, max))]


def _smallest_draw(
    transform: Any, image: torch.Tensor, seed: int
) -> tuple[BatchOperation, tuple[int, int]]:
    """The draw of ``transforms`` that makes the smallest image of one, and its (height, width)."""
    rng = np.random.default_rng(seed)
    images = torch.zeros(1, *image.shape)
    found: list[tuple[BatchOperation, tuple[int, int]]] = []
    for _ in range(DRAWS):
        operation = transform.draw(rng)
        found.append((operation, tuple(operation(images).shape[-2:])))
    return min(found, key=lambda pair: math.prod(pair[1]))
