"""The paper's tables and Figure 2 as data: which config trains each row, and the paper's numbers.

``mmgradaug sweep`` trains rows by a table's name, ``mmgradaug report`` puts results beside them.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Optional

WRN, PYRAMID, R110, R50 = 'WideResNet-28-10', 'PyramidNet-200', 'ResNet-110', 'ResNet-50'
SMALL_WRN, MASK_RCNN = 'WideResNet-28-2', 'Mask R-CNN, ResNet-50-FPN'
TOP1, TOP5 = 'accuracy/top1', 'accuracy/top5'
BOX_AP, MASK_AP = 'coco/bbox_mAP', 'coco/segm_mAP'
# At the end of the key of a plain training that is as expensive as GradAug.
EQUAL_COST = '+equal_cost'


class Metric(NamedTuple):
    """How a metric of MMEngine's log is shown."""

    name: str
    factor: float = 1.0  # by which the log's value is multiplied


# The first of these that a training has is its main one.
METRICS = {
    TOP1: Metric('top-1 %'),
    BOX_AP: Metric('box AP', 100.0),
    TOP5: Metric('top-5 %'),
    MASK_AP: Metric('mask AP', 100.0),
}
# Metrics of MMDetection that are logged in [0, 1]; all others of it and of MMPretrain are in per cent, or counts.
FRACTION = re.compile(
    r'(.*/)?(bbox|segm|proposal|keypoints)_m?A[PR].*|(.*/)?AR(_[sml])?@\d+|coco/.*_precision'
    r'|(pascal_voc|lvis|openimages|cityscapes|crowd_human)/.*'
)


def metric_of(name: str) -> Metric:
    """How a metric is shown, by the name under which it is logged."""
    if name in METRICS:
        return METRICS[name]
    return Metric(f'{name} %', 100.0) if FRACTION.fullmatch(name) else Metric(name)


class Cost(NamedTuple):
    """A row of Table 2: on eight GTX 1080 Ti with 512 images an iteration."""

    epochs: int
    memory_mb: int  # of a GPU
    minutes: int  # of an epoch
    hours: int  # in all


@dataclass(frozen=True, eq=False)
class Row:
    """A line of a table.

    Args:
        label: the method, as the paper names it.
        config: path below ``configs/``; of a config elsewhere the absolute path.
        network: as the paper names it.
        dataset: likewise.
        options: ``--cfg-options`` that the row needs besides its config.
        figures: the paper's numbers by metric, in the units of ``METRICS``; empty where it prints none.
        deviation: of its top-1 over the paper's splits, where it prints one.
        cost: in Table 2.
        name: of a config that is no row's, in place of its file's.
    """

    label: str
    config: str
    network: str
    dataset: str
    options: tuple[str, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)
    deviation: Optional[float] = None
    cost: Optional[Cost] = None
    name: str = ''

    @property
    def key(self) -> str:
        """Names the training: rows of several tables may be the same one."""
        stem = self.name or self.config.rsplit('/', 1)[-1].removesuffix('.py')
        pairs = (option.split('=') for option in self.options)
        return '+'.join([stem, *(f'{key.rsplit(".", 1)[-1]}={value}' for key, value in pairs)])


@dataclass(frozen=True)
class Table:
    """A table or figure of the paper.

    Args:
        name: as ``mmgradaug sweep`` takes it.
        axes: of a figure: the options on its horizontal axes, by the rows' labels.
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    note: str = ''
    axes: tuple[str, ...] = ()

    @property
    def short_title(self) -> str:
        return self.title.split(':')[0]


def _figures(top1: Optional[float], top5: Optional[float] = None) -> dict[str, float]:
    return {key: value for key, value in ((TOP1, top1), (TOP5, top5)) if value is not None}


def _imagenet(label: str, config: str, top1: float, top5: Optional[float] = None) -> Row:
    return Row(label, config, R50, 'ImageNet', (), _figures(top1, top5))


def _wrn(
    label: str,
    method: str,
    top1: Optional[float] = None,
    top5: Optional[float] = None,
    options: Iterable[str] = (),
) -> Row:
    config = f'cifar/{method}_wrn28_10_cifar100.py'
    return Row(label, config, WRN, 'CIFAR-100', tuple(options), _figures(top1, top5))


def _pyramid(label: str, method: str, top1: float, top5: float) -> Row:
    config = f'cifar/{method}_pyramidnet200_cifar100.py'
    return Row(label, config, PYRAMID, 'CIFAR-100', (), _figures(top1, top5))


def _r110(label: str, method: str, dataset: str, top1: float) -> Row:
    config = f'cifar/{method}_resnet110_{dataset.lower().replace("-", "")}.py'
    return Row(label, config, R110, dataset, (), _figures(top1))


def _by_number(n: int) -> Row:
    options = () if n == 3 else (f'model.gradaug.num_subnets={n}',)
    return _wrn(f'n = {n}', 'gradaug', options=options)


def _by_width(alpha: float) -> Row:
    options = () if alpha == 0.8 else (f'model.gradaug.min_width={alpha}',)
    return _wrn(f'alpha = {alpha}', 'gradaug', options=options)


# The Mixup paper (arXiv:1710.09412, Section 3.1) divides the rate by 10 after these of 90 epochs.
MIXUP_STEPS = {
    ('imagenet/mixup_r50.py', 90): ('param_scheduler.1.milestones=[30,60,80]',),
}


def _cost(label: str, config: str, own_epochs: int, top1: float, *cost: int) -> Row:
    """A row of Table 2, with another number of epochs than its config's where the paper has one."""
    epochs = cost[0]
    options: tuple[str, ...] = ()
    if epochs != own_epochs:
        schedule = MIXUP_STEPS.get((config, epochs)) or (
            f'param_scheduler.T_max={epochs}',
            f'param_scheduler.end={epochs}',
        )
        options = (f'train_cfg.max_epochs={epochs}', *schedule)
    label = f'{label}, {epochs} epochs'
    return Row(label, config, R50, 'ImageNet', options, _figures(top1), cost=Cost(*cost))


def _coco(label: str, config: str, box: float, mask: float) -> Row:
    return Row(label, config, MASK_RCNN, 'COCO', (), {BOX_AP: box, MASK_AP: mask})


# Table 10's columns: data set, number of labels, and the number that the configs have.
LOW_DATA = (
    ('CIFAR-10', 250, 250),
    ('CIFAR-10', 1000, 250),
    ('CIFAR-10', 4000, 250),
    ('STL-10', 1000, 1000),
)
# Its lines: method, config, options; mean and deviation for each column.
LOW_DATA_METHODS: tuple[
    tuple[str, str, tuple[str, ...], tuple[Optional[tuple[float, float]], ...]], ...
] = (
    ('Baseline', 'baseline', (), ((45.23, 1.01), (64.72, 1.18), (80.17, 0.68), (67.62, 1.06))),
    ('CutMix (p=0.5)', 'cutmix', (), ((43.45, 1.98), (63.21, 0.73), (80.28, 0.26), (67.91, 1.15))),
    (
        'CutMix (p=0.1)',
        'cutmix',
        ('model.train_cfg.probs=0.1',),
        ((43.98, 1.15), (64.60, 0.86), (82.14, 0.65), (69.34, 0.70)),
    ),
    ('ShakeDrop', 'shakedrop', (), ((42.01, 1.94), (63.11, 1.22), (79.62, 0.77), (66.51, 0.99))),
    ('GradAug', 'gradaug', (), ((50.11, 1.21), (70.39, 0.82), (83.69, 0.51), (70.42, 0.81))),
    (
        'GradAug-semi',
        'gradaug_semi',
        (),
        ((52.95, 2.15), (71.74, 0.77), (84.11, 0.25), (70.86, 0.71)),
    ),
    ('Mean Teacher', 'mean_teacher', (), ((48.41, 1.01), (65.57, 0.83), (84.13, 0.28), None)),
)


def _low_data() -> Iterable[Row]:
    """Table 10, column by column."""
    for column, (dataset, labels, default) in enumerate(LOW_DATA):
        number = () if labels == default else (f'train_dataloader.dataset.num_labels={labels}',)
        for label, method, options, figures in LOW_DATA_METHODS:
            config = f'low_data/{method}_wrn28_2_{dataset.lower().replace("-", "")}.py'
            of = f'{dataset}, {labels:,} labels'
            mean, deviation = figures[column] or (None, None)
            yield Row(label, config, SMALL_WRN, of, (*number, *options), _figures(mean), deviation)


TABLES = (
    Table(
        'table1',
        'Table 1: ImageNet, ResNet-50',
        (
            _imagenet('Baseline', 'imagenet/baseline_r50.py', 76.32, 92.95),
            _imagenet('Baseline, 300 epochs', 'imagenet/baseline_300e_r50.py', 76.32, 92.95),
            _imagenet('Cutout', 'imagenet/cutout_r50.py', 77.07, 93.34),
            _imagenet('DropBlock', 'imagenet/dropblock_r50.py', 78.13, 94.02),
            _imagenet('Mixup', 'imagenet/mixup_r50.py', 77.9, 93.9),
            _imagenet('CutMix', 'imagenet/cutmix_r50.py', 78.60, 94.08),
            _imagenet('StochDepth', 'imagenet/stochdepth_r50.py', 77.53, 93.73),
            _imagenet('DropPath', 'imagenet/droppath_r50.py', 77.10, 93.50),
            _imagenet('ShakeDrop', 'imagenet/shakedrop_r50.py', 77.5),
            _imagenet('GradAug', 'gradaug_r50_imagenet.py', 78.79, 94.38),
            _imagenet('Bag of tricks', 'imagenet/bag_of_tricks_r50.py', 79.29, 94.63),
            _imagenet('GradAug + CutMix', 'imagenet/gradaug_cutmix_r50.py', 79.67, 94.93),
        ),
        "The paper reports its own rows' final epoch; those it takes from others are best epochs. Schedules "
        'behind its figures: 76.32 (one figure, here beside both baselines), Cutout, CutMix and StochDepth are '
        "the CutMix paper's, of 300 epochs; Mixup the Mixup paper's, 200; DropBlock and DropPath the DropBlock "
        "paper's, 270; bag of tricks its own paper's, 200; ShakeDrop's is unknown; GradAug 120. Baseline "
        'here has 120, as GradAug.',
    ),
    Table(
        'table2',
        'Table 2: training cost on ImageNet, ResNet-50',
        (
            _cost('Baseline', 'imagenet/baseline_r50.py', 120, 76.5, 90, 6973, 22, 33),
            _cost('Baseline', 'imagenet/baseline_r50.py', 120, 76.4, 200, 6973, 22, 73),
            _cost('Mixup', 'imagenet/mixup_r50.py', 200, 76.7, 90, 6973, 23, 35),
            _cost('Mixup', 'imagenet/mixup_r50.py', 200, 77.9, 200, 6973, 23, 77),
            _cost('DropBlock', 'imagenet/dropblock_r50.py', 270, 78.1, 270, 6973, 23, 104),
            _cost('CutMix', 'imagenet/cutmix_r50.py', 300, 78.6, 300, 6973, 23, 115),
            _cost('GradAug', 'gradaug_r50_imagenet.py', 120, 78.8, 120, 7145, 61, 122),
            _cost('GradAug', 'gradaug_r50_imagenet.py', 120, 78.8, 200, 7145, 61, 203),
        ),
        "The paper's costs are of eight GTX 1080 Ti.",
    ),
    Table(
        'table3',
        'Table 3: CIFAR-100, WideResNet-28-10 and PyramidNet-200',
        (
            _wrn('Baseline', 'baseline', 81.53, 95.59),
            _wrn('Mixup', 'mixup', 82.5),
            _wrn('CutMix', 'cutmix', 84.08, 96.28),
            _wrn('ShakeDrop', 'shakedrop', 81.65, 96.19),
            _wrn('GradAug', 'gradaug', 83.98, 96.17),
            _wrn('CutMix + ShakeDrop', 'cutmix_shakedrop', 81.64, 96.46),
            _wrn('GradAug + CutMix', 'gradaug_cutmix', 85.25, 96.85),
            _pyramid('Baseline', 'baseline', 83.49, 94.31),
            _pyramid('Mixup', 'mixup', 84.37, 96.01),
            _pyramid('CutMix', 'cutmix', 84.83, 86.73),
            _pyramid('ShakeDrop', 'shakedrop', 84.57, 97.08),
            _pyramid('GradAug', 'gradaug', 84.98, 97.08),
            _pyramid('CutMix + ShakeDrop', 'cutmix_shakedrop', 85.93, 97.63),
            _pyramid('GradAug + CutMix', 'gradaug_cutmix', 86.24, 97.33),
        ),
        "86.73 (PyramidNet, CutMix, top-5) is a misprint in the paper: the authors' README has 96.73. It has 85.35 "
        'for WideResNet with GradAug + CutMix, and 85.53 / 97.04 for PyramidNet with GradAug.',
    ),
    Table(
        'table4',
        'Table 4: random width and random scale on their own',
        (
            _wrn('Baseline', 'baseline', 81.53, 95.59),
            _wrn('RandScale', 'gradaug_randscale', 82.27, 96.16),
            _wrn('RandWidth', 'gradaug_randwidth', 81.74, 95.56),
            _wrn('GradAug', 'gradaug', 83.98, 96.17),
        ),
    ),
    Table(
        'table5',
        'Table 5: transformations',
        (
            _wrn('Baseline', 'baseline', 81.53),
            _wrn('RandScale', 'gradaug', 83.98),
            _wrn('RandRot', 'gradaug_rotation', 83.36),
            _wrn('Scale&Rot', 'gradaug_scale_rotation', 84.21),
            _imagenet('Baseline', 'imagenet/baseline_r50.py', 76.32),
            _imagenet('RandScale', 'gradaug_r50_imagenet.py', 78.79),
            _imagenet('RandRot', 'imagenet/gradaug_rotation_r50.py', 77.62),
            _imagenet('Scale&Rot', 'imagenet/gradaug_scale_rotation_r50.py', 78.66),
        ),
        'RandScale in this table is GradAug with random scale, not the RandScale of Table 4.',
    ),
    Table(
        'table6',
        'Table 6: sub-networks by stochastic depth, ResNet-110',
        tuple(
            _r110(label, method, dataset, top1)
            for dataset, figures in (
                ('CIFAR-10', (93.49, 94.29, 94.85)),
                ('CIFAR-100', (72.21, 75.20, 77.01)),
            )
            for (label, method), top1 in zip(
                (('Baseline', 'baseline'), ('StochDepth', 'stochdepth'), ('GradAug', 'gradaug')),
                figures,
            )
        ),
        "The paper's re-implementation; StochDepth's own paper reports 93.59 and 94.75 on CIFAR-10, 72.24 "
        'and 75.02 on CIFAR-100.',
    ),
    Table(
        'figure2',
        'Figure 2: number of sub-networks n and width lower bound alpha',
        (
            *(_by_number(n) for n in (1, 2, 3, 4, 5)),
            *(_by_width(alpha) for alpha in (0.5, 0.6, 0.7, 0.8, 0.9)),
        ),
        'The paper plots these and prints no numbers; which n and alpha it plots is not in its text, so this grid is '
        'ours. n = 3 with alpha = 0.8 is Table 3, 83.98.',
        ('n', 'alpha'),
    ),
    Table(
        'tricks',
        'Section 3.1: soft labels, and always the smallest width',
        (
            _wrn('Both', 'gradaug', 83.98, 96.17),
            _wrn('Labels', 'gradaug_no_soft_labels'),
            _wrn('Widths all drawn', 'gradaug_no_smallest'),
            _wrn('Labels, widths all drawn', 'gradaug_no_tricks'),
        ),
        "The paper's own comparison is in its supplement, which could not be found, so the network is our choice "
        "and only Table 3's figure is known.",
    ),
    Table(
        'table7',
        'Table 7: Mask R-CNN on COCO',
        (
            _coco('Baseline', 'coco/baseline_mask_rcnn_r50.py', 36.5, 33.3),
            _coco('Mixup-pretrained', 'coco/mixup_pretrained_mask_rcnn_r50.py', 35.9, 32.7),
            _coco('CutMix-pretrained', 'coco/cutmix_pretrained_mask_rcnn_r50.py', 36.7, 33.4),
            _coco('GradAug-pretrained', 'coco/gradaug_pretrained_mask_rcnn_r50.py', 37.7, 34.5),
            _coco('GradAug', 'mask_rcnn_gradaug.py', 38.2, 35.4),
        ),
        "Starts from the backbones that Table 1's configs left in work_dirs/.",
    ),
    Table(
        'table10',
        'Table 10: few labels, WideResNet-28-2',
        tuple(_low_data()),
        "Mean and deviation over five random splits. The row of Mean Teacher is Oliver et al.'s, who have "
        'no STL-10.',
    ),
)

# Tables about networks that are trained already.
OTHER_COMMANDS = {
    'table8': 'mmgradaug robustness CONFIG CHECKPOINT --imagenet-c DIR',
    'table9': 'mmgradaug fgsm CONFIG CHECKPOINT',
    'figure1': 'mmgradaug cam CONFIG CHECKPOINT IMAGES --width 0.9',
}
# By key the first row that trains it.
ROWS = {row.key: row for table in reversed(TABLES) for row in table.rows}


def own_key(config: Path) -> str:
    """Names what a config trains that is no row's: by its file, and its folder where a row has such a name."""
    folder = config.parent.name
    return f'{folder}_{config.stem}' if folder and config.stem in ROWS else config.stem


def baseline_of(row: Row, table: Table) -> Optional[Row]:
    """The row that others of its network and data are measured by; a figure's is in a table."""
    for rows in (table.rows, *(other.rows for other in TABLES)):
        for other in rows:
            same = (other.network, other.dataset) == (row.network, row.dataset)
            if same and other.label.split(',')[0] == 'Baseline':
                return other
    return None
