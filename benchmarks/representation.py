#!/usr/bin/env python
"""Do features learned with GradAug serve another data set better? Linear probes and fine-tuning.

The paper asks it with ImageNet networks as a detector's backbone (Section 4.4, Table 7); here it is asked in
small. The networks are those that ``economy_search.py train --weights FOLDER`` saved: the same network, trained
on the same labelled images plainly, with Mixup, with CutMix and with GradAug. Each is then given a few labelled
images of another data set (``trashnet`` or ``digits``, at least five of each class):

- probe: the network stays as it is, in evaluation mode; logistic regression on its last features, its penalty
  chosen by cross-validation among the labelled images;
- finetune: all weights are trained, plainly, with a new last layer.

A seed's networks share the labelled images of both data sets and the new layer. ``untrained`` is the same
network with random weights.

Needs scikit-learn, and for ``--to trashnet`` the file that ``finetune_search.py --pack`` makes.

Example::

    python benchmarks/economy_search.py train --dataset cifar10 --data data/cifar10 --weights weights --out runs.jsonl
    python benchmarks/representation.py --weights weights --data data --to trashnet/120 --out probes.jsonl
"""

import argparse
import functools
import json
import re
import statistics
import tempfile
from pathlib import Path
from typing import Any, Callable

import torch
import torch.nn.functional as F
from economy_search import TASKS, VARIANTS, WideResNet
from search import (
    Images,
    Job,
    filled,
    load_images,
    read_lines,
    record,
    run_queue,
    save_images,
    saved_images,
)
from torch import Tensor, nn

from mmgradaug.experiments.difference import paired

UNTRAINED = 'untrained'
PIXELS, BATCH, ITERATIONS, LR = 32, 32, 200, 0.02
PENALTIES = [10.0**power for power in range(-4, 3)]
NAMES = {'trashnet': 'TrashNet', 'digits': 'digits'}
FILE = re.compile(
    r'(?P<of>[a-z0-9]+-\d+(?:-augmented)?)-(?P<method>.+)-(?P<length>\d+(?:-bf16)?)-(?P<seed>\d+)\.pth'
)


def networks(folder: Path) -> list[dict[str, Any]]:
    """The saved networks by what their names say, seed by seed, each seed's untrained one added."""
    found = []
    for file in sorted(folder.glob('*.pth')):
        match = FILE.fullmatch(file.name)
        if match is None:
            raise SystemExit(f'{file} was not saved by economy_search.py: take it out of {folder}')
        of = f'{match["of"]}-{match["length"]}'
        found.append(dict(of=of, method=match['method'], seed=int(match['seed']), file=file.name))
    if not found:
        raise SystemExit(
            f'{folder} holds no .pth files: make them by economy_search.py train --weights {folder}'
        )
    pairs = dict.fromkeys((each['of'], each['seed']) for each in found)
    found += [dict(of=of, method=UNTRAINED, seed=seed, file='') for of, seed in pairs]
    return sorted(found, key=lambda each: (each['seed'], each['of'], each['method']))


def prepare(folder: str, weights: Path) -> Callable[[Job], dict[str, Any]]:
    """What runs a job in a process of a search."""
    torch.set_num_threads(1)

    @functools.cache
    def images(dataset: str) -> Images:
        return saved_images(Path(folder, dataset))

    def run(job: Job) -> dict[str, Any]:
        model = network(job, weights)
        channels = model.stem.in_channels
        data = Data(images(job['to']), job['labels'], job['seed'], channels)
        return (probe if job['kind'] == 'probe' else finetune)(model, data, job['seed'])

    return run


def network(job: Job, weights: Path) -> WideResNet:
    torch.manual_seed(job['seed'])
    task = TASKS[job['of'].split('-')[0]]
    if job['method'] == UNTRAINED:
        return WideResNet(task.depth, task.widen, 1 if job['of'].startswith('digits') else 3, 10)
    state = torch.load(weights / job['file'], map_location='cpu', weights_only=True)
    channels, classes = state['stem.weight'].shape[1], len(state['head.bias'])
    model = WideResNet(task.depth, task.widen, channels, classes)
    model.load_state_dict(state)
    return model


class Data:
    """The labelled images of a seed, and the test, as the networks see them."""

    def __init__(self, images: Images, labels: int, seed: int, channels: int = 3) -> None:
        self.channels = channels
        chosen = images.choose(labels, seed)
        train = self._sized(images.train[chosen])
        self.mean, self.std = (
            train.mean((0, 2, 3), keepdim=True),
            train.std((0, 2, 3), keepdim=True),
        )
        self.train, self.test = self._normalised(train), self._normalised(self._sized(images.test))
        self.train_labels = torch.from_numpy(images.train_labels[chosen])
        self.test_labels = torch.from_numpy(images.test_labels.copy())
        self.classes = int(self.train_labels.max()) + 1

    def _sized(self, images: Any) -> Tensor:
        values = torch.from_numpy(images.copy()).permute(0, 3, 1, 2).float()
        values = (
            values.expand(-1, 3, -1, -1) if self.channels == 3 else values.mean(1, keepdim=True)
        )
        return F.interpolate(values, [PIXELS] * 2, mode='bilinear', align_corners=False)

    def _normalised(self, images: Tensor) -> Tensor:
        images = (images - self.mean) / self.std
        return images.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def features(model: WideResNet, images: Tensor) -> Tensor:
    """Of the last layer, (N, channels); the model in evaluation mode."""
    head, model.head = model.head, nn.Identity()
    found = torch.cat([model.eval()(part) for part in images.split(500)])
    model.head = head
    return found


def probe(model: WideResNet, data: Data, seed: int) -> dict[str, Any]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold

    model.to(memory_format=torch.channels_last)
    train, test = features(model, data.train), features(model, data.test)
    mean, std = train.mean(0), train.std(0) + 1e-6
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    fitted = GridSearchCV(LogisticRegression(max_iter=2000), dict(C=PENALTIES), cv=folds)
    fitted.fit(((train - mean) / std).numpy(), data.train_labels.numpy())
    right = fitted.predict(((test - mean) / std).numpy()) == data.test_labels.numpy()
    return dict(top1=round(100 * float(right.mean()), 3), C=fitted.best_params_['C'])


def finetune(model: WideResNet, data: Data, seed: int) -> dict[str, Any]:
    torch.manual_seed(seed)
    model.head = nn.Linear(model.head.in_features, data.classes)
    model.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(model.parameters(), LR, 0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, ITERATIONS)
    count = len(data.train)
    epochs = [torch.randperm(count) for _ in range(ITERATIONS * BATCH // count + 1)]
    for chosen in torch.cat(epochs)[: ITERATIONS * BATCH].split(BATCH):
        loss = F.cross_entropy(model(data.train[chosen]), data.train_labels[chosen])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    with torch.no_grad():
        outputs = torch.cat([model.eval()(part) for part in data.test.split(500)])
    right = (outputs.argmax(1) == data.test_labels).float().mean()
    return dict(top1=round(100 * right.item(), 3), loss=round(loss.item(), 4))


def table(lines: list[dict[str, Any]], of: str) -> list[str]:
    """A Markdown table of the methods that networks were trained with; differences are to ``plain``.

    Bold is beyond two standard errors.
    """
    found: dict[tuple[str, str, int], dict[str, dict[int, float]]] = {}
    for line in lines:
        if line['of'] == of:
            key = line['kind'], line['to'], line['labels']
            found.setdefault(key, {}).setdefault(line['method'], {})[line['seed']] = line['top1']
    columns = sorted(found, key=lambda key: (key[1], key[0] != 'probe'))
    titles = [f'{NAMES[to]}, {kind}' for kind, to, _ in columns]
    head = ['trained with', *(cell for title in titles for cell in (title, 'to plain'))]
    rows = [f'| {" | ".join(head)} |', '|---' * len(head) + '|']
    methods = {method for runs in found.values() for method in runs}
    order = [*(name.replace(' ', '_') for name in VARIANTS), UNTRAINED]
    for method in sorted(methods, key=order.index):
        cells = [method.replace('_', ' ')]
        for column in columns:
            runs = found[column].get(method, {})
            gain = paired(runs, found[column].get('plain', {})) if method != 'plain' else None
            spread = f' ± {statistics.stdev(runs.values()):.1f}' if len(runs) > 1 else ''
            cells.append(f'{statistics.mean(runs.values()):.1f}{spread}' if runs else '')
            cells.append('' if gain is None else f'**{gain}**' if gain.is_certain else str(gain))
        rows.append(f'| {" | ".join(cells)} |')
    return rows


def fill(page: str, folder: Path) -> str:
    """A page with its tables made anew: ``<!-- representation FILE OF -->`` and ``<!-- end -->`` stand around one."""
    return filled(
        page,
        'representation',
        lambda file, of: table(json.loads((folder / file).read_text())['lines'], of),
    )


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--weights', type=Path, help='the folder of saved networks')
    parser.add_argument('--data', type=Path, default=Path('data'), help='holds trashnet.tar.gz')
    parser.add_argument('--to', nargs='+', default=['trashnet/120'], metavar='DATASET/LABELS')
    kinds = ['probe', 'finetune']
    parser.add_argument('--kinds', nargs='+', default=kinds, choices=kinds)
    parser.add_argument(
        '--out', type=Path, default=Path('representation.jsonl'), help='goes on where it ended'
    )
    parser.add_argument('--processes', type=int, default=1)
    parser.add_argument('--seconds', type=float, default=float('inf'))
    parser.add_argument(
        '--record',
        type=Path,
        help='added to a command that has ended: write what it made, and itself, into this file',
    )
    parser.add_argument('--page', type=Path, help='make the tables of this page anew')
    args = parser.parse_args()
    if not (args.page or args.weights):
        parser.error('--weights: name the folder of saved networks')
    for each in args.to:
        name, _, labels = each.partition('/')
        if name not in NAMES or not labels.isdigit():
            parser.error(f'--to {each}: write {" or ".join(NAMES)}, a slash, a number')
    return args


def main() -> None:
    args = parse_args()
    if args.page:
        args.page.write_text(fill(args.page.read_text(), args.page.parent))
        return
    targets = [(name, int(labels)) for name, labels in (each.split('/') for each in args.to)]
    jobs = [
        dict(**each, to=to, labels=labels, kind=kind)
        for each in networks(args.weights)
        for to, labels in targets
        for kind in args.kinds
    ]
    if not args.record:
        with tempfile.TemporaryDirectory() as folder:
            for to, _ in targets:
                Path(folder, to).mkdir()
                save_images(load_images(to, args.data / f'{to}.tar.gz', None), Path(folder, to))
            run_queue(
                jobs, prepare, (folder, args.weights), args.out,
                processes=args.processes, seconds=args.seconds,
            )  # fmt: skip
    else:
        args.record.write_text(record(args.out))
    lines = read_lines(args.out)
    for of in sorted({line['of'] for line in lines}):
        print('\n'.join(['', of, '', *table(lines, of)]))


if __name__ == '__main__':
    main()
