"""Cheaper forms of GradAug against GradAug and plain training of equal cost, many small trainings at once.

    python benchmarks/economy_search.py train --dataset cifar10 --data data/cifar10 --out work_dirs/search.jsonl
    python benchmarks/economy_search.py train --dataset digits --out work_dirs/search.jsonl
    python benchmarks/economy_search.py time --dataset cifar10 --data data/cifar10 --out work_dirs/time.json
    python benchmarks/economy_search.py speed --data data/cifar10

``train``: each run trains a WRN on few labelled images, drawn anew for each seed, and is tested after its last
iteration; one line of JSON a run. Started again, it goes on with the runs that are missing. ``time``:
seconds of an iteration of each variant and of plain training, taken in turns in one process. ``speed``: how
many iterations a second several processes do together on this GPU, to plan a search by. ``page``: the tables and
the picture of docs/economy.md.

``--data``: CIFAR-10 as class folders (``train/cat/0001.png``, ``test/...``), or a tar file of them, or
torchvision's ``cifar-10-batches-py``. The digits come with scikit-learn. Needs PyTorch, torchvision and Pillow.
"""

import argparse
import functools
import json
import re
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Optional

import numpy as np
import torch
import torch.multiprocessing as mp
import torch.nn.functional as F
from search import (
    Images,
    load_images,
    read_lines,
    run_queue,
    save_images,
    saved_images,
)
from torch import Tensor, nn
from wide_resnet import WideResNet

from mmgradaug import GradAug, Identity, RandomResize
from mmgradaug.experiments.difference import paired
from mmgradaug.slimming.plan import kept_channels


@dataclass(frozen=True)
class Task:
    """A data set and how plain training on it goes; SGD with Nesterov momentum 0.9 and a cosine."""

    labels: tuple[int, ...]
    augment: tuple[bool, ...]
    depth: int
    widen: int
    batch: int
    iterations: int
    sizes: tuple[int, ...]
    lr: float = 0.1
    weight_decay: float = 5e-4


TASKS = {
    # The paper's schedule of WRN on CIFAR (Section 4.2), made short.
    'cifar10': Task((250, 1000), (False, True), 16, 2, 64, 500, (32, 28, 24)),
    'cifar10wide': Task((250, 1000), (False, True), 16, 4, 64, 500, (32, 28, 24)),
    # The quick start's setting.
    'digits': Task((100,), (False,), 16, 1, 25, 200, (16, 14, 12)),
}


@dataclass(frozen=True)
class Variant:
    """A form of training.

    Args:
        settings: of GradAug; without ``num_subnets`` it is 3, without ``min_width`` 0.8.
        length: iterations, as a multiple of the task's.
        begin: share of the training before the first sub-network.
        sizes: which of the task's sizes sub-networks see; None for the images as they are.
        mix: '', 'mixup' or 'cutmix'.
        extra: left to the end, after the seeds of all others.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    length: float = 1.0
    begin: float = 0.0
    sizes: Optional[slice] = field(default_factory=lambda: slice(None))
    mix: str = ''
    extra: bool = False


PLAIN = dict(num_subnets=0)
VARIANTS = {
    'plain': Variant(PLAIN),
    'plain x1.5': Variant(PLAIN, length=1.5),
    'plain x2.7': Variant(PLAIN, length=2.7),
    'paper': Variant(),
    'n=1': Variant(dict(num_subnets=1)),
    'n=1 smallest': Variant(dict(num_subnets=1, smallest_if_single=True)),
    'n=1 half smallest': Variant(dict(num_subnets=1, smallest_if_single=0.5)),
    'n=1 small sizes': Variant(dict(num_subnets=1), sizes=slice(1, None)),
    'n=1 smallest small sizes': Variant(
        dict(num_subnets=1, smallest_if_single=True), sizes=slice(1, None)
    ),
    'n=1 alpha=0.5': Variant(dict(num_subnets=1, min_width=0.5)),
    'n=1 every 2nd': Variant(dict(num_subnets=1, every=2)),
    'n=1 half batch': Variant(dict(num_subnets=1, batch_fraction=0.5)),
    'n=1 second half': Variant(dict(num_subnets=1), begin=0.5),
    'n=3 every 2nd': Variant(dict(every=2)),
    'n=3 every 3rd': Variant(dict(every=3)),
    'n=3 third of batch': Variant(dict(batch_fraction=1 / 3)),
    'n=3 second half': Variant(begin=0.5),
    'width_divisor=8': Variant(dict(width_divisor=8)),
    # Table 4 and other questions that the paper answers at its scale.
    'RandScale': Variant(dict(min_width=1.0), extra=True),
    'RandWidth': Variant(sizes=None, extra=True),
    'not always smallest': Variant(dict(always_smallest=False), extra=True),
    'hard labels': Variant(dict(soft_labels=False), extra=True),
    'n=5': Variant(dict(num_subnets=5), extra=True),
    'alpha=0.5': Variant(dict(min_width=0.5), extra=True),
    'alpha=0.7': Variant(dict(min_width=0.7), extra=True),
    'Mixup': Variant(PLAIN, mix='mixup', extra=True),
    'CutMix': Variant(PLAIN, mix='cutmix', extra=True),
    'CutMix x2.7': Variant(PLAIN, length=2.7, mix='cutmix', extra=True),
    'paper + CutMix': Variant(mix='cutmix', extra=True),
}


# Network


class Cost:
    """Multiplications of a training iteration, relative to a plain one, from widths and sizes alone.

    Counts convolutions and linear layers; backward costs twice the forward pass at any width.
    """

    def __init__(self, model: nn.Module, sizes: tuple[int, ...]) -> None:
        self.layers: dict[int, list[tuple[int, int, float]]] = {}
        channels = next(model.parameters()).shape[1]
        for size in sizes:
            layers = self.layers[size] = []
            hooks = [
                m.register_forward_hook(functools.partial(self._note, layers))
                for m in model.modules()
                if isinstance(m, (nn.Conv2d, nn.Linear))
            ]
            with torch.no_grad():
                model.eval()(next(model.parameters()).new_zeros(1, channels, size, size))
            model.train()
            for hook in hooks:
                hook.remove()
        self.full = self.forward(sizes[0], 1.0)

    @staticmethod
    def _note(layers: list, layer: nn.Module, args: Any, output: Tensor) -> None:
        kernel = layer.weight[0, 0].numel() if layer.weight.dim() > 2 else 1
        layers.append((layer.weight.shape[1], layer.weight.shape[0], kernel * output[0, 0].numel()))

    def forward(self, size: int, width: float, divisor: int = 1) -> float:
        """Of one image."""
        total, last = 0.0, len(self.layers[size]) - 1
        for i, (channels_in, channels, each) in enumerate(self.layers[size]):
            ins = channels_in if i == 0 else kept_channels(channels_in, width, divisor)
            outs = channels if i == last else kept_channels(channels, width, divisor)
            total += ins * outs * each
        return total

    def of(self, gradaug: GradAug, iteration: int, size: int) -> float:
        """The whole iteration; a plain one is 1."""
        total = 1.0
        subnets = gradaug.sampler.sample(gradaug.seed, iteration)
        for subnet in subnets if iteration in gradaug.schedule else []:
            pixels = getattr(subnet.transform, 'size', (size,))[0]
            part = 1.0 if subnet.part is None else subnet.part.fraction
            divisor = subnet.choices[0].divisor
            total += part * self.forward(pixels, subnet.width, divisor) / self.full
        return total


# Training


@dataclass(frozen=True)
class Job:
    """One run."""

    dataset: str
    labels: int
    augment: bool
    variant: str
    seed: int
    plain_iterations: int


class Trainer:
    """One run, iteration by iteration."""

    def __init__(
        self,
        job: Job,
        images: Images,
        device: torch.device,
        channels_last: bool,
        bf16: bool = False,
    ) -> None:
        self.autocast = torch.autocast(device.type, torch.bfloat16, enabled=bf16)
        self.job, self.task, self.variant = job, TASKS[job.dataset], VARIANTS[job.variant]
        task, variant = self.task, self.variant
        self.device, self.size = device, task.sizes[0]
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        chosen = images.choose(job.labels, job.seed)
        pool = torch.from_numpy(images.train[chosen]).to(device)
        values = pool.double().flatten(0, 2)
        self.mean, self.std = values.mean(0).float(), values.std(0).float()
        # Zeros around the normalised images, as in padding before a random crop.
        self.pool = F.pad(self._normalise(pool), (0, 0, 4, 4, 4, 4))
        self.labels = torch.from_numpy(images.train_labels[chosen]).to(device)
        self.classes = int(self.labels.max()) + 1
        torch.manual_seed(job.seed)
        self.model = WideResNet(task.depth, task.widen, pool.shape[-1], self.classes).train()
        self.iterations = round(job.plain_iterations * variant.length)
        settings = {'num_subnets': 3, 'min_width': 0.8, **variant.settings}
        transforms = (
            Identity() if variant.sizes is None else RandomResize(task.sizes[variant.sizes])
        )
        self.gradaug = GradAug(
            self.model,
            transforms=transforms,
            seed=job.seed,
            begin=round(variant.begin * self.iterations),
            **settings,
        )
        self.cost = Cost(self.model, task.sizes)
        self.model.to(device, memory_format=self.format)  # the plan was made on the CPU
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), task.lr, 0.9, weight_decay=task.weight_decay, nesterov=True
        )
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, self.iterations)
        # All random numbers of the data at once; on the CPU, so that any device has the same.
        rng = torch.Generator().manual_seed(job.seed + 1)
        number, batch = self.iterations * task.batch, task.batch
        epochs = [
            torch.randperm(job.labels, generator=rng) for _ in range(number // job.labels + 1)
        ]
        shape = (self.iterations, batch)
        self.order = torch.cat(epochs)[:number].view(shape).to(device)
        limit = 9 if job.augment else 1
        start = 0 if job.augment else 4
        self.tops, self.lefts = (
            (torch.randint(limit, shape, generator=rng) + start).to(device) for _ in range(2)
        )
        self.flips = (torch.rand(shape, generator=rng) < 0.5).to(device) & job.augment
        self.mixing = np.random.default_rng((job.seed, 2))
        self.pixels = torch.arange(self.size, device=device)
        self.iteration = 0

    def _normalise(self, images: Tensor) -> Tensor:
        return (images.float() - self.mean) / self.std

    def batch(self) -> tuple[Tensor, Tensor]:
        """The images and labels of this iteration, cropped, flipped and mixed."""
        chosen, i = self.order[self.iteration], self.iteration
        columns = torch.where(self.flips[i][:, None], self.pixels.flip(0), self.pixels)
        rows = (self.tops[i][:, None] + self.pixels)[:, :, None]
        columns = (self.lefts[i][:, None] + columns)[:, None, :]
        images = self.pool[chosen[:, None, None], rows, columns].permute(0, 3, 1, 2)
        images = images.contiguous(memory_format=self.format)
        labels = self.labels[chosen]
        return self.mix(images, labels) if self.variant.mix else (images, labels)

    def mix(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mixup (arXiv:1710.09412) or CutMix (arXiv:1905.04899, every second batch), alpha = 1."""
        one_hot, rng = F.one_hot(labels, self.classes).float(), self.mixing
        share, apply, *centre = rng.random(), rng.random() < 0.5, *rng.random(2)
        other, other_labels = images.flip(0), one_hot.flip(0)  # the batch is shuffled
        if self.variant.mix == 'mixup':
            images = share * images + (1 - share) * other
        elif apply:
            half = self.size * (1 - share) ** 0.5 / 2
            (top, bottom), (left, right) = (
                (max(int(c * self.size - half), 0), min(int(c * self.size + half), self.size))
                for c in centre
            )
            images = images.clone()
            images[:, :, top:bottom, left:right] = other[:, :, top:bottom, left:right]
            share = 1 - (bottom - top) * (right - left) / self.size**2
        else:
            return images, one_hot
        return images, share * one_hot + (1 - share) * other_labels

    def step(self) -> dict[str, Any]:
        images, labels = self.batch()
        with self.autocast:
            losses = self.gradaug.backward(images, labels, F.cross_entropy)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.scheduler.step()
        self.iteration += 1
        return losses

    @torch.no_grad()
    def test(self, images: Images) -> float:
        """Top-1 in per cent."""
        self.model.eval()
        right = 0
        for start in range(0, len(images.test), 1000):
            part = torch.from_numpy(images.test[start : start + 1000]).to(self.device)
            logits = self.model(
                self._normalise(part).permute(0, 3, 1, 2).contiguous(memory_format=self.format)
            )
            labels = torch.from_numpy(images.test_labels[start : start + 1000]).to(self.device)
            right += int((logits.argmax(1) == labels).sum())
        return 100 * right / len(images.test)

    def relative_cost(self) -> float:
        """Multiplications of the whole training, relative to the task's plain one."""
        total = sum(self.cost.of(self.gradaug, i, self.size) for i in range(self.iterations))
        return total / self.job.plain_iterations


def prepare(
    folder: str, channels_last: bool, bf16: bool, weights: Optional[Path]
) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """What runs a job in a process of a search."""
    device = setup()
    machine = torch.cuda.get_device_name() if device.type == 'cuda' else 'CPU'

    @functools.cache
    def images(dataset: str) -> Images:
        return saved_images(Path(folder, dataset))

    def train(values: dict[str, Any]) -> dict[str, Any]:
        job = Job(**values)
        trainer = Trainer(job, images(job.dataset), device, channels_last, bf16)
        while trainer.iteration < trainer.iterations:
            losses = trainer.step()
        if weights is not None:
            weights.mkdir(parents=True, exist_ok=True)
            torch.save(trainer.model.state_dict(), weights_file(weights, job, bf16))
        return dict(
            iterations=trainer.iterations,
            top1=trainer.test(images(job.dataset)),
            loss_full=float(losses['loss_full']),
            flops=trainer.relative_cost(),
            machine=f'{machine}, bf16' if bf16 else machine,
        )

    return train


def weights_file(folder: Path, job: Job, bf16: bool) -> Path:
    """Says its run in its name; :mod:`representation` reads it."""
    what = f'{job.dataset}-{job.labels}' + ('-augmented' if job.augment else '')
    how = f'{job.variant}-{job.plain_iterations}' + ('-bf16' if bf16 else '')
    return folder / f'{what}-{how}-{job.seed}.pth'.replace(' ', '_')


def setup() -> torch.device:
    torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = False  # shapes vary
    return torch.device('cuda' if torch.cuda.is_available() else 'cpu')


def jobs_of(args: argparse.Namespace) -> list[Job]:
    """All runs, seed by seed, so that an early end leaves whole seeds; the extra variants last."""
    found = []
    for extra in (False, True):
        for seed in range(args.seeds):
            for dataset in args.dataset:
                task = TASKS[dataset]
                iterations = round(task.iterations * args.length)
                for labels in args.labels or task.labels:
                    augments = task.augment if args.augment is None else (args.augment == 'yes',)
                    for augment in augments:
                        for name, variant in VARIANTS.items():
                            if variant.extra == extra and re.search(args.only, name):
                                found.append(Job(dataset, labels, augment, name, seed, iterations))
    return found


def save_all(args: argparse.Namespace, folder: str) -> None:
    for dataset in args.dataset:
        Path(folder, dataset).mkdir()
        save_images(load_images(dataset, args.data, args.digits), Path(folder, dataset))


def check_what_is_there(args: argparse.Namespace) -> None:
    """Runs that are there are left out, so they must be what is asked for."""
    done = read_lines(args.out)
    if any(line.get('machine', 'CPU').endswith('bf16') != args.bf16 for line in done):
        raise SystemExit(
            f'{args.out} holds runs with{"out" * args.bf16} --bf16: name another --out'
        )
    for job in jobs_of(args) if args.weights else ():
        is_done = any(vars(job).items() <= line.items() for line in done)
        if is_done and not weights_file(args.weights, job, args.bf16).is_file():
            raise SystemExit(
                f'{args.out} has runs whose networks are not in {args.weights}: name another --out'
            )


def search(args: argparse.Namespace) -> None:
    check_what_is_there(args)
    with tempfile.TemporaryDirectory() as folder:
        save_all(args, folder)
        run_queue(
            [vars(job) for job in jobs_of(args)],
            prepare,
            (folder, args.channels_last, args.bf16, args.weights),
            args.out,
            processes=args.processes,
            seconds=args.seconds,
        )
    summary(args.out)


# What came of it


@dataclass
class Group:
    """The runs of one variant in one setting."""

    variant: str
    flops: float
    top1: dict[int, float]  # by seed


# Data set, labels, whether augmented, iterations of plain training, and on what: numbers of two machines do not mix.
Setting = tuple[str, int, bool, int, str]
FIELDS = ('dataset', 'labels', 'augment', 'plain_iterations', 'machine')


def setting_of(entry: dict[str, Any]) -> Setting:
    return tuple(entry.get(name, 'CPU') for name in FIELDS)


def read_runs(path: Path) -> dict[Setting, dict[str, Group]]:
    """Of each setting the groups by variant, in the order of ``VARIANTS``; from lines of runs."""
    runs: dict[Setting, dict[str, list[dict]]] = {}
    for run in read_lines(path):
        runs.setdefault(setting_of(run), {}).setdefault(run['variant'], []).append(run)
    return {
        setting: {
            name: Group(
                name,
                statistics.mean(run['flops'] for run in variants[name]),
                {
                    run['seed']: run['top1']
                    for run in sorted(variants[name], key=lambda r: r['seed'])
                },
            )
            for name in VARIANTS
            if name in variants
        }
        for setting, variants in runs.items()
    }


def plain_at(groups: dict[str, Group], flops: float) -> dict[int, float]:
    """By seed, plain training of that cost: between the two lengths next to it, on a straight line."""
    lines = sorted(
        (g for name, g in groups.items() if name.startswith('plain')), key=lambda g: g.flops
    )
    seeds = set.intersection(*(set(line.top1) for line in lines)) if lines else set()
    costs = [line.flops for line in lines]
    return {s: float(np.interp(flops, costs, [line.top1[s] for line in lines])) for s in seeds}


def summary(path: Path) -> None:
    """On the terminal."""
    for setting, groups in read_runs(path).items():
        print('{}, {} labels, augmented: {}, {} iterations, {}'.format(*setting))
        for name, group in groups.items():
            gain = paired(group.top1, groups['plain'].top1) if 'plain' in groups else None
            equal = paired(group.top1, plain_at(groups, group.flops))
            mean = statistics.mean(group.top1.values())
            print(
                f'  {name:26} {group.flops:5.2f} {mean:6.2f}  {gain}  {equal}  {len(group.top1)} seeds'
            )


def column(setting: Setting, groups: dict[str, Group]) -> str:
    dataset, labels, augment, iterations, machine = setting
    seeds = sorted({len(group.top1) for group in groups.values()})
    text = f'{NAMES[dataset]}, {labels} labels' + (', augmented' if augment else '')
    number = str(seeds[0]) if len(seeds) == 1 else f'{seeds[0]} to {seeds[-1]}'
    return (
        f'{text}, {iterations} iterations, {machine}, {number} seed{"" if seeds[-1] == 1 else "s"}'
    )


NAMES = {'cifar10': 'CIFAR-10', 'cifar10wide': 'CIFAR-10 (WRN-16-4)', 'digits': 'digits'}


def tables(data: dict[str, Any]) -> str:
    """The tables of docs/economy.md, as Markdown."""
    results = results_of(data)
    times = {(entry['dataset'], entry['variant']): entry['ratio'] for entry in data['times']}
    text = []
    for title, compare in (
        ('To plain training', lambda groups, group: groups['plain'].top1),
        ('To plain training at equal cost', lambda groups, group: plain_at(groups, group.flops)),
    ):
        timed = [name for name in NAMES if any(dataset == name for dataset, _ in times)]
        costs = ['multiplications', *(f'time, {NAMES[each]}' for each in timed)]
        head = ['', *costs, *(column(*each) for each in results.items())]
        lines = [head, ['---'] * len(head)]
        for name in VARIANTS:
            found = [groups[name] for groups in results.values() if name in groups]
            if not found or name == 'plain' or ('equal' in title and name.startswith('plain')):
                continue
            # Of the networks' sizes here: the mean over the settings of CIFAR-10 where there are some.
            flops = [g[name].flops for s, g in results.items() if name in g and s[0] == 'cifar10']
            lines.append([
                name,
                f'{statistics.mean(flops or [group.flops for group in found]):.2f}',
                *(f'{times[each, name]:.2f}' if (each, name) in times else '' for each in timed),
                *(cell(groups, name, compare) for groups in results.values()),
            ])  # fmt: skip
        text += [f'**{title}**', '', *('| ' + ' | '.join(line) + ' |' for line in lines), '']
    if not certain_gains(results):
        return '\n'.join(text)
    head = ['', *(column(*each) for each in certain_gains(results).items())]
    lines = [head, ['---'] * len(head)]
    for name in VARIANTS:
        cells = [
            f'{cell(groups, name, lambda groups, _: groups["paper"].top1)}, {share(groups, name)}%'
            if name in groups
            else ''
            for groups in certain_gains(results).values()
        ]
        if name not in ('plain', 'paper') and any(cells):
            lines.append([name, *cells])
    text += ['**To GradAug, and the share of its gain over plain training**', '']
    text += ['| ' + ' | '.join(line) + ' |' for line in lines]
    return '\n'.join(text)


def certain_gains(results: dict[Setting, dict[str, Group]]) -> dict[Setting, dict[str, Group]]:
    """Settings in which GradAug is above plain training by more than two standard errors."""
    found = {}
    for setting, groups in results.items():
        if 'paper' in groups and 'plain' in groups:
            gain = paired(groups['paper'].top1, groups['plain'].top1)
            if gain is not None and gain.is_certain and gain.mean > 0:
                found[setting] = groups
    return found


def share(groups: dict[str, Group], name: str) -> str:
    """Over the seeds that a variant, GradAug and plain training have in common."""
    seeds = set(groups[name].top1) & set(groups['paper'].top1) & set(groups['plain'].top1)
    gains = [
        sum(groups[each].top1[seed] - groups['plain'].top1[seed] for seed in seeds)
        for each in (name, 'paper')
    ]
    return f'{100 * gains[0] / gains[1]:.0f}'


def cell(groups: dict[str, Group], name: str, compare: Any) -> str:
    if name not in groups:
        return ''
    found = paired(groups[name].top1, compare(groups, groups[name]))
    return '' if found is None else f'**{found}**' if found.is_certain else str(found)


def results_of(data: dict[str, Any]) -> dict[Setting, dict[str, Group]]:
    """From the committed JSON."""
    results: dict[Setting, dict[str, Group]] = {}
    for entry in data['groups']:
        setting = setting_of(entry)
        top1 = {int(seed): value for seed, value in entry['top1'].items()}
        group = Group(entry['variant'], entry['flops'], top1)
        results.setdefault(setting, {})[group.variant] = group
    return {
        s: {v: groups[v] for v in VARIANTS if v in groups} for s, groups in sorted(results.items())
    }


def page(args: argparse.Namespace) -> None:
    """Runs and times as one JSON file, the picture beside it, and the tables in the page.

    What the file holds of other settings and variants stays, and so do its times without ``--time``.
    """
    old = json.loads(args.json.read_text()) if args.json.is_file() else dict(groups=[])
    groups = [
        dict(zip(FIELDS, setting), variant=name, flops=round(group.flops, 4),
             top1={seed: round(value, 2) for seed, value in group.top1.items()})
        for setting, variants in read_runs(args.out).items()
        for name, group in variants.items()
    ]  # fmt: skip
    anew = {(setting_of(group), group['variant']) for group in groups}
    groups += [g for g in old['groups'] if (setting_of(g), g['variant']) not in anew]
    measured = [json.loads(file.read_text()) for file in args.time]
    data = dict(timed_on=old.get('timed_on', []), times=old.get('times', []), groups=groups)
    if measured:
        data.update(
            timed_on=sorted({f'{each["device"]}, PyTorch {each["torch"]}' for each in measured}),
            times=[entry for each in measured for entry in each['variants']],
        )
    args.json.parent.mkdir(parents=True, exist_ok=True)
    lines = json.dumps(data).replace(', {"dataset"', ',\n{"dataset"').replace('], "', '],\n"')
    args.json.write_text(lines + '\n')
    data = json.loads(lines)
    figure(data, args.json.with_suffix('.png'))
    text = args.page.read_text()
    before, _, rest = text.partition(TABLES_BEGIN)
    args.page.write_text(
        f'{before}{TABLES_BEGIN}\n\n{tables(data)}\n{TABLES_END}{rest.partition(TABLES_END)[2]}'
    )


TABLES_BEGIN, TABLES_END = '<!-- tables: begin -->', '<!-- end -->'


def figure(data: dict[str, Any], file: Path) -> None:
    """What is gained over plain training, over cost, in each setting; longer plain training is the line to beat."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    results = results_of(data)
    columns = 2 if len(results) == 4 else min(3, len(results))
    rows = -(-len(results) // columns)
    chart, grid = pyplot.subplots(
        rows, columns, figsize=(2 + 3.7 * columns, 4 * rows), layout='constrained', squeeze=False
    )
    found = {name for groups in results.values() for name in groups}
    others = [n for n in VARIANTS if n in found and not n.startswith('plain')]
    shown = {}
    for axis in grid.flat[len(results) :]:
        axis.remove()
    for axis, (setting, groups) in zip(grid.flat, results.items()):
        plain = [group for name, group in groups.items() if name.startswith('plain')]
        line = [paired(group.top1, groups['plain'].top1).mean for group in plain]
        (shown['plain training, longer'],) = axis.plot([group.flops for group in plain], line, 'k-')
        for i, name in enumerate(others):
            if name not in groups:
                continue
            gain = paired(groups[name].top1, groups['plain'].top1)
            shown[name] = axis.errorbar(
                groups[name].flops, gain.mean, gain.error or 0, fmt='*osv^<>DPXhdp8'[i % 14],
                color='red' if name == 'paper' else f'C{i % 10}', markersize=12 if name == 'paper' else 6,
                elinewidth=0.7,
            )  # fmt: skip
        axis.set_title(column(setting, groups), fontsize=8)
        axis.set(xlabel='multiplications / plain training', ylabel='top-1 over plain training')
    chart.legend(shown.values(), shown, loc='outside right center', fontsize=8)
    pyplot.savefig(file, dpi=90)
    pyplot.close()


# Time


def synchronise(device: torch.device) -> None:
    if device.type == 'cuda':
        torch.cuda.synchronize()


def measure(args: argparse.Namespace) -> None:
    """Seconds of an iteration of each variant, in turns with all others."""
    device, entries = setup(), []
    # Seconds of the processor, where other processes may share it.
    clock = time.perf_counter if device.type == 'cuda' else time.process_time
    for dataset in args.dataset:
        images = load_images(dataset, args.data, args.digits)
        trainers = {
            name: Trainer(Job(dataset, TASKS[dataset].labels[-1], False, name, 0, 300), images,
                          device, args.channels_last)
            for name, variant in VARIANTS.items()
            if variant.length == 1 and not variant.begin and re.search(args.only, name)
        }  # fmt: skip
        seconds: dict[str, list[float]] = {name: [] for name in trainers}
        for turn in range(args.turns + 1):
            for name, trainer in trainers.items():
                synchronise(device)
                start = clock()
                for _ in range(6):  # a multiple of every `every`
                    trainer.step()
                synchronise(device)
                if turn:
                    seconds[name].append((clock() - start) / 6)
        plain = statistics.median(seconds['plain'])
        for name, each in seconds.items():
            # Six iterations at a time: the ratio of two of the same turn.
            ratios = [a / b for a, b in zip(each, seconds['plain'])]
            median, trainer = statistics.median(each), trainers[name]
            entries.append(
                dict(
                    dataset=dataset, variant=name, seconds=median, ratio=statistics.median(ratios),
                    spread=[min(ratios), max(ratios)], turns=args.turns,
                    flops=trainer.relative_cost(),
                )
            )  # fmt: skip
            print(f'{dataset:8} {name:20} {1000 * median:8.2f} ms {median / plain:6.2f} '
                  f'{entries[-1]["flops"]:6.2f}', flush=True)  # fmt: skip
    where = (
        torch.cuda.get_device_name()
        if device.type == 'cuda'
        else 'CPU, one thread; its own seconds'
    )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(
        json.dumps(dict(device=where, torch=torch.__version__, variants=entries), indent=1)
    )


def spin(args: argparse.Namespace, folder: str, channels_last: bool, counts: Any) -> None:
    device = setup()
    images = saved_images(Path(folder, args.dataset[0]))
    trainer = Trainer(Job(args.dataset[0], 250, True, args.variant, 0, 100_000), images, device,
                      channels_last)  # fmt: skip
    trainer.step()
    synchronise(device)
    counts.put(('ready', 0))
    start, count = time.monotonic(), 0
    while time.monotonic() < start + 5:
        trainer.step()
        count += 1
    synchronise(device)
    counts.put(('count', count / (time.monotonic() - start)))


def speed(args: argparse.Namespace) -> None:
    context = mp.get_context('spawn')
    with tempfile.TemporaryDirectory() as folder:
        save_all(args, folder)
        for channels_last in (False, True):
            for number in args.processes_list:
                counts = context.Queue()
                processes = [
                    context.Process(target=spin, args=(args, folder, channels_last, counts))
                    for _ in range(number)
                ]
                for process in processes:
                    process.start()
                rates = [counts.get(timeout=120) for _ in range(2 * number)]
                for process in processes:
                    process.join()
                total = sum(rate for _, rate in rates)
                print(f'{args.variant}, {number} processes, channels_last={channels_last}: '
                      f'{total:.0f} iterations/s together', flush=True)  # fmt: skip


def parse(arguments: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('what', choices=('train', 'time', 'speed', 'summary', 'page'))
    parser.add_argument('--dataset', nargs='+', choices=list(TASKS), default=['cifar10'])
    parser.add_argument('--data', type=Path, help='CIFAR-10; see above')
    parser.add_argument(
        '--digits', type=Path, help="scikit-learn's digits.csv.gz, where it is not installed"
    )
    parser.add_argument('--out', type=Path, default=Path('work_dirs/economy_search.jsonl'))
    parser.add_argument('--seeds', type=int, default=5)
    parser.add_argument('--labels', type=int, nargs='+', help="the task's by default")
    parser.add_argument(
        '--augment', choices=('yes', 'no'), help='both by default, where the task has both'
    )
    parser.add_argument(
        '--only', default='', help='variants whose name has this regular expression'
    )
    parser.add_argument('--length', type=float, default=1.0, help="times the task's iterations")
    parser.add_argument('--seconds', type=float, default=float('inf'), help='then it stops')
    parser.add_argument('--processes', type=int, default=1)
    parser.add_argument('--processes-list', type=int, nargs='+', default=[1, 6, 14])
    parser.add_argument('--variant', default='plain', help='of speed')
    parser.add_argument('--time', type=Path, nargs='+', default=[], help='of page: what time wrote')
    parser.add_argument(
        '--json', type=Path, help='of page: written, and a picture of the same name'
    )
    parser.add_argument(
        '--page', type=Path, help='of page: the Markdown file whose tables are replaced'
    )
    parser.add_argument('--turns', type=int, default=15, help='of time')
    parser.add_argument('--channels-last', action='store_true')
    parser.add_argument('--bf16', action='store_true', help='of train: autocast, the test in fp32')
    parser.add_argument(
        '--weights', type=Path, help='of train: save the trained networks in this folder'
    )
    return parser.parse_args(arguments)


def main() -> None:
    args = parse()
    commands = dict(
        train=search, time=measure, speed=speed, page=page, summary=lambda args: summary(args.out)
    )
    commands[args.what](args)


if __name__ == '__main__':
    main()
