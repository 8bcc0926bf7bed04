#!/usr/bin/env python
"""What runs left, beside the paper's tables: one HTML page, and the same as Markdown."""

import argparse
import html
import io
import json
import math
import os
import re
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Optional, Union

from paper_tables import TABLES, Row, Table
from training_runs import (
    ROOT,
    Points,
    UserError,
    check_installed,
    in_columns,
    json_lines,
    read_config,
    run_tool,
    short,
)

MARK = 'written by tools/report.py of mmgradaug'  # in each file, to know an earlier report by
EQUAL_COST = '+equal_cost'
SMALL = 'small scale: not comparable with the paper'
OTHER = "another setting than the paper's: not comparable with the paper"
PAPER = "the paper's setting"
NO_RUN = 'no run'
NOTHING = '–'

# What decides over a result; the rest of a config is logging, or where things lie.
DECISIVE = (
    'model',
    'data_preprocessor',
    'train_dataloader',
    'val_dataloader',
    'val_evaluator',
    'optim_wrapper',
    'param_scheduler',
    'train_cfg',
    'custom_hooks',
)
# But for these within: speed, paths, repetitions, and how often validation looks.
WITHOUT_EFFECT = re.compile(
    r'.*\.(seed|label_seed|split_seed|num_workers|persistent_workers|pin_memory|prefetch_factor|data_root'
    r'|ann_file|download)$'
    r'|.*\.(data_prefix|backend_args)(\..*)?$'
    r'|val_dataloader\.batch_size$|train_cfg\.(val_interval|val_begin)$'
)
# A difference here makes a training smaller, one elsewhere makes it another.
MAKES_SMALL = re.compile(r'train_cfg\.|\w+_dataloader\.dataset\.|model\.(.*\.)?backbone\.')


@dataclass
class Result:
    """What one training came to.

    Args:
        key: of the row that it trains, with ``+equal_cost`` or without.
        label: of the method, for reading.
        seed: None if the config leaves it to chance.
        source: where it was found.
        status: 'done', or why it does not count.
        top1, top5: in per cent, of the final weights.
        best: the highest top-1 of all validations.
        curve: (iteration, top-1).
        iterations, epochs: how long it was trained; epochs where the config counts in them.
        seconds: of an iteration, the median.
        memory: at most, in MB.
        as_run: data, network and length in words, if a config says.
    """

    key: str
    label: str
    seed: Optional[int]
    source: Path
    status: str = 'done'
    top1: Optional[float] = None
    top5: Optional[float] = None
    best: Optional[float] = None
    curve: Points = field(default_factory=list)
    iterations: Optional[int] = None
    epochs: Optional[int] = None
    seconds: Optional[float] = None
    memory: Optional[float] = None
    as_run: str = ''


@dataclass
class Scale:
    """Runs that may be compared and averaged, and how they differ from the paper's.

    Args:
        identity: equal for runs of one scale.
        badge: SMALL, OTHER or PAPER.
        sentence: what was run, in words.
        facts: further (name, text), for those who want to know.
        results: those done, by their key.
    """

    identity: tuple[Any, ...]
    badge: str
    sentence: str
    facts: list[tuple[str, str]] = field(default_factory=list)
    results: dict[str, list[Result]] = field(default_factory=dict)
    title: str = ''
    anchor: str = ''

    def lengths(self) -> dict[str, Optional[int]]:
        # Plain training at equal cost is as long as the measured times said.
        return {
            key: results[0].iterations
            for key, results in self.results.items()
            if not key.endswith(EQUAL_COST)
        }

    def fits(self, other: 'Scale') -> bool:
        mine, theirs = self.lengths(), other.lengths()
        return self.identity == other.identity and all(
            mine[key] == theirs[key] for key in mine.keys() & theirs.keys()
        )


@dataclass
class Found:
    """Everything that the work dirs hold."""

    scales: list[Scale] = field(default_factory=list)
    left_out: list[tuple[Result, str]] = field(default_factory=list)  # and why

    def add(self, scale: Scale, results: Iterable[Result]) -> None:
        """Put finished results to the others of their scale."""
        for result in results:
            if result.status != 'done':
                self.left_out.append((result, result.status))
            elif result.top1 is None:
                self.left_out.append((result, 'no accuracy recorded'))
            else:
                scale.results.setdefault(result.key, []).append(result)
        if not scale.results:
            return
        same = next((known for known in self.scales if known.fits(scale)), None)
        if same is None:
            self.scales.append(scale)
            same, scale = scale, Scale((), '', '')
        same.facts += [fact for fact in scale.facts if fact not in same.facts]
        for key, more in scale.results.items():
            same.results.setdefault(key, []).extend(more)
        for key, all_of_it in same.results.items():
            same.results[key] = self._once_a_seed(all_of_it)

    def _once_a_seed(self, results: list[Result]) -> list[Result]:
        """The same training twice is no second seed."""
        kept: dict[Any, Result] = {}
        for result in results:
            name = result.source if result.seed is None else result.seed
            if name not in kept:
                kept[name] = result
            elif kept[name] is not result:
                reason = f'seed {result.seed} was found before, in {short(kept[name].source)}'
                self.left_out.append((result, reason))
        return list(kept.values())


ROWS = {row.key: row for table in reversed(TABLES) for row in table.rows}


def baseline_of(row: Row, table: Table) -> Optional[Row]:
    """The row that others of its network and data are measured by; a figure's is in a table."""
    for rows in (table.rows, *(other.rows for other in TABLES)):
        for other in rows:
            same = (other.network, other.dataset) == (row.network, row.dataset)
            if same and other.label == 'Baseline':
                return other
    return None


# Reading what runs left


def read_work_dirs(work_dirs: Sequence[Path]) -> Found:
    """What is in the folders, and in those below.

    Raises:
        UserError: a folder is missing, has no runs, or a record is broken.
    """
    found = Found()
    seen: set[Path] = set()
    for work_dir in work_dirs:
        if not work_dir.is_dir():
            raise UserError(f'no such folder: {work_dir}')
        sweeps = sorted(work_dir.rglob('sweep.json'))
        runs = sorted({file.parents[2] for file in work_dir.rglob('vis_data/scalars.json')})
        of_sweeps = [sweep.parent for sweep in sweeps]
        # A sweep tells of its own trainings.
        runs = [run for run in runs if not any(one in (run, *run.parents) for one in of_sweeps)]
        if not sweeps and not runs:
            raise UserError(
                f'no runs in {work_dir}: looked for sweep.json, which tools/sweep.py writes, and for '
                '<time>/vis_data/scalars.json, which tools/train.py leaves in its work dir, there '
                'and in all folders below'
            )
        for place in [*sweeps, *runs]:
            if place.resolve() in seen:
                continue
            seen.add(place.resolve())
            if place.name == 'sweep.json':
                read_sweep(place, found)
            else:
                read_run(place, found)
    for kind in (PAPER, SMALL, OTHER):
        scales = [scale for scale in found.scales if scale.badge == kind]
        for number, scale in enumerate(scales, 1):
            name = {PAPER: "The paper's setting", SMALL: 'Small scale'}.get(kind, 'Another setting')
            scale.title = name if len(scales) == 1 else f'{name} {number}'
            scale.anchor = re.sub(r'\W+', '-', scale.title.replace("'", '').lower())
    found.scales.sort(key=lambda scale: (PAPER, SMALL, OTHER).index(scale.badge))
    return found


def read_sweep(file: Path, found: Found) -> None:
    """Add the runs of a sweep.

    Raises:
        UserError: it is not what tools/sweep.py writes.
    """
    try:
        sweep = json.loads(file.read_text())
        options = [o for o in sweep.get('cfg_options') or [] if has_effect(o.split('=')[0])]
        results, differing, checked = [], set(), True
        for run in sweep['runs']:
            result = Result(
                run['key'],
                run.get('label') or run['key'],
                run['seed'],
                file.parent / run['work_dir'],
                status=run['status'],
                top1=run.get('top1'),
                top5=run.get('top5'),
                best=run.get('best_top1'),
                curve=sweep_curve(run),
                iterations=run.get('iterations'),
                epochs=run.get('epochs'),
                seconds=run.get('seconds_per_iteration'),
                memory=run.get('peak_memory_mb'),
            )
            results.append(result)
            cfg = dumped_config(result.source)
            if result.status != 'done':
                continue
            if cfg is None:
                checked = False
                continue
            result.as_run = describe(cfg)
            result.epochs = result.epochs or cfg.train_cfg.get('max_epochs')
            if result.key in ROWS:
                differing |= set(differences(cfg, ROWS[result.key], processes(result.source)))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f'{file} is not what tools/sweep.py writes: {type(error).__name__}: {error}'
        ) from None
    known = []
    for result in results:
        if result.key.removesuffix(EQUAL_COST) in ROWS:
            known.append(result)
        else:
            found.left_out.append((result, 'a row of none of the tables'))
    scale, overlay = sweep.get('scale'), sweep.get('overlay')
    facts = [
        ('Sweep', f'{short(file.parent)}, {sweep.get("created")}, commit {sweep.get("commit")}'),
        ('Command', str(sweep.get('command') or '')),
        ('Setting', ', '.join(f'{k}: {v}' for k, v in (sweep.get('setting') or {}).items())),
        ('Overlay', str(overlay or '')),
    ]
    sentence = scale or ''
    if not scale and overlay:
        sentence = 'The configs with an overlay that makes them smaller.'
    if options:
        sentence = f'{sentence.rstrip(".")}. With {" ".join(options)}.'.removeprefix('. ')
    badge = PAPER
    if scale or overlay:
        badge = SMALL
    elif options:
        badge = badge_of(option.split('=')[0] for option in options)
    elif differing:
        badge = badge_of(key for key, _, _ in differing)
        sentence = in_words(sorted(differing))
    identity: tuple[Any, ...] = (scale, overlay, tuple(sorted(options)))
    if badge == PAPER:
        identity, sentence = (PAPER,), as_the_paper()
        if not checked:
            facts.append(
                ('Not compared', f'the work dirs of {short(file.parent)} have no dumped configs')
            )
    elif differing and not (scale or overlay or options):
        identity = ('differences', *sorted((key, value) for key, value, _ in differing))
    found.add(Scale(identity, badge, sentence.strip(), [f for f in facts if f[1]]), known)


def sweep_curve(run: dict[str, Any]) -> list[tuple[int, float]]:
    """(iteration, top-1) of a sweep's run, which may count in epochs."""
    curve = run.get('curve') or []
    each = 1
    if run.get('step_unit') == 'epoch':
        if not (run.get('iterations') and run.get('epochs')):
            return []
        each = run['iterations'] // run['epochs']
    return [(int(step) * each, float(value)) for step, value in curve]


def read_run(work_dir: Path, found: Found) -> None:
    """Add the training of a work dir that MMEngine wrote; several starts are one, resumed."""
    cfg = dumped_config(work_dir)
    dumped = sorted(work_dir.glob('*.py'), key=os.path.getmtime)
    stem = dumped[-1].stem if dumped else work_dir.name
    if cfg is None or not cfg.get('train_cfg'):
        found.left_out.append((Result('', stem, None, work_dir), 'no config beside its log'))
        return
    seed = (cfg.get('randomness') or {}).get('seed')
    result = Result('', stem, seed, work_dir, as_run=describe(cfg))
    read_scalars(work_dir, cfg, result)
    row = row_of(stem, cfg)
    if row is None:
        found.left_out.append((result, 'a row of none of the tables'))
        return
    result.key, result.label = row.key, row.label
    differing = differences(cfg, row, processes(work_dir))
    facts = [('Run', f'{short(work_dir)}: {row.label}, seed {seed}')]
    if not differing:
        scale = Scale((PAPER,), PAPER, as_the_paper(), facts)
    else:
        identity = ('differences', *((key, value) for key, value, _ in differing))
        badge = badge_of(key for key, _, _ in differing)
        scale = Scale(identity, badge, in_words(differing), facts)
    found.add(scale, [result])


def read_scalars(work_dir: Path, cfg: Any, result: Result) -> None:
    """Read MMEngine's scalars.json of all starts into ``result``."""
    epochs, total = cfg.train_cfg.get('max_epochs'), cfg.train_cfg.get('max_iters')
    logger = (cfg.get('default_hooks') or {}).get('logger') or {}
    by_epoch = bool(epochs) and logger.get('log_metric_by_epoch', True)
    validations: list[tuple[int, int, float, Optional[float]]] = []  # step, iteration, top-1, top-5
    times, first_of_epoch, last = [], {}, 0
    for file in sorted(work_dir.glob('*/vis_data/scalars.json')):
        begins = False
        for entry in json_lines(file):
            if 'loss' in entry:
                if not begins:
                    # What an earlier start did after the checkpoint was done again.
                    begins = True
                    now = entry.get('epoch', 0) if by_epoch else entry['step']
                    validations = [v for v in validations if v[0] < now]
                    first_of_epoch = {e: i for e, i in first_of_epoch.items() if e < now}
                last = entry['step']
                first_of_epoch.setdefault(entry.get('epoch', 0), last)
                if 'time' in entry:
                    times.append(entry['time'])
                if 'memory' in entry:
                    result.memory = max(result.memory or 0, entry['memory'])
            if 'accuracy/top1' in entry:
                top5 = entry.get('accuracy/top5')
                # By epoch the step is an epoch; its last iterations may not be in the log.
                iteration = last if by_epoch else entry['step']
                validations.append((entry['step'], iteration, entry['accuracy/top1'], top5))
    if by_epoch and (length := _epoch_length(first_of_epoch)):
        validations = [(step, step * length, *values) for step, _, *values in validations]
    result.epochs = epochs
    result.seconds = statistics.median(times) if times else None
    if not validations:
        result.status, result.iterations = 'unfinished: not validated yet', last or None
        return
    step, result.iterations, result.top1, result.top5 = validations[-1]
    result.best = max(top1 for _, _, top1, _ in validations)
    result.curve = [(iteration, top1) for _, iteration, top1, _ in validations]
    if by_epoch and step < epochs:
        result.status = f'unfinished: epoch {step} of {epochs}'
    elif not epochs and total and step < total:
        result.status = f'unfinished: iteration {step} of {total}'
    elif epochs and not by_epoch and max(first_of_epoch, default=0) < epochs:
        result.status = f'unfinished: epoch {max(first_of_epoch, default=0)} of {epochs}'


def _epoch_length(first_of_epoch: dict[int, int]) -> Optional[int]:
    """Iterations of an epoch, of which each logs first after equally many."""
    for epoch, first in sorted(first_of_epoch.items()):
        if epoch + 1 in first_of_epoch:
            return first_of_epoch[epoch + 1] - first
    return None


@cache
def dumped_config(work_dir: Path) -> Any:
    """What a work dir was trained with last; None if it does not say."""
    logs = sorted(work_dir.glob('*/vis_data/scalars.json'))
    files = [logs[-1].with_name('config.py')] if logs else []
    files += sorted(work_dir.glob('*.py'), key=os.path.getmtime)[-1:]
    file = next((file for file in files if file.is_file()), None)
    return None if file is None else read_config(file)


def processes(work_dir: Path) -> int:
    """With how many GPUs, or processes, a work dir was trained, as far as its log says."""
    for log in sorted(work_dir.glob('*/*.log'), reverse=True):
        if number := re.search(r'GPU number: (\d+)', log.read_text(errors='replace')):
            return int(number[1])
    return 1


@cache
def reference(row: Row) -> Any:
    """The row's config as it is now; None if there is none."""
    file = ROOT / 'configs' / row.config
    if not file.is_file():
        return None
    cfg = read_config(file)
    cfg.merge_from_dict(_parsed(row.options))
    return cfg


def _parsed(options: Iterable[str]) -> dict[str, Any]:
    from mmengine.config import DictAction

    pairs = (option.split('=', 1) for option in options)
    return {key: DictAction._parse_iterable(value) for key, value in pairs}


def row_of(stem: str, cfg: Any) -> Optional[Row]:
    """The row that a dumped config trains; of rows that share a config file, by their options."""
    rows = [row for row in ROWS.values() if Path(row.config).stem == stem]
    keys = {option.split('=')[0] for row in rows for option in row.options}
    ours = {key: _at(cfg, key) for key in keys}
    for row in rows:
        told = _parsed(row.options)
        wanted = {key: _at(reference(row), key) for key in keys} if reference(row) else told
        if all(ours[key] == value for key, value in wanted.items()) and (told or reference(row)):
            return row
    # Without the config file nobody knows what the row without options has.
    plain = [row for row in rows if not row.options]
    return plain[0] if plain and reference(plain[0]) is None else None


def _at(cfg: Any, key: str) -> Any:
    for part in key.split('.'):
        cfg = cfg.get(part) if hasattr(cfg, 'get') else None
    return cfg


def has_effect(key: str) -> bool:
    """Whether an option may change a result."""
    return key.split('.')[0] in DECISIVE and not WITHOUT_EFFECT.fullmatch(key)


def differences(cfg: Any, row: Row, world: int) -> list[tuple[str, str, str]]:
    """(key, value, the row's) where a dumped config trains otherwise than the row's config."""
    wanted_cfg = reference(row)
    if wanted_cfg is None:
        return [('configs/' + row.config, 'not compared', 'missing here')]
    ours, wanted = dict(_flat(cfg)), dict(_flat(wanted_cfg))
    for values in (ours, wanted):  # the same images, read from a folder
        for key, value in values.items():
            if key.endswith('dataset.type') and value == 'mmgradaug.ImageFolder':
                values[key] = f'CIFAR{values.get("data_preprocessor.num_classes")}'
    batch = 'train_dataloader.batch_size'
    base = (wanted_cfg.get('auto_scale_lr') or {}).get('base_batch_size') or wanted.get(batch)
    # Eight GPUs with 64 images each are one with 512.
    if batch in ours:
        ours[batch] *= world
        wanted[batch] = base
    return [
        (key, _text(ours, key), _text(wanted, key))
        for key in sorted(ours.keys() | wanted.keys())
        if _text(ours, key) != _text(wanted, key)
    ]


def _flat(value: Any, prefix: str = '') -> Iterator[tuple[str, Any]]:
    if hasattr(value, 'items'):
        items: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, (list, tuple)) and any(hasattr(one, 'items') for one in value):
        items = enumerate(value)
    else:
        if has_effect(prefix):
            yield prefix, value
        return
    for key, one in items:
        yield from _flat(one, f'{prefix}.{key}' if prefix else str(key))


def _text(values: dict[str, Any], key: str) -> str:
    if key not in values:
        return 'absent'
    value = values[key]
    return str(list(value) if isinstance(value, tuple) else value)


def badge_of(keys: Iterable[str]) -> str:
    return SMALL if any(MAKES_SMALL.match(key) for key in keys) else OTHER


def in_words(differing: Sequence[tuple[str, str, str]], most: int = 8) -> str:
    parts = [
        f"{key} {value} (the row's config: {wanted})" for key, value, wanted in differing[:most]
    ]
    if len(differing) > most:
        parts.append(f'{len(differing) - most} more')
    return f"Not as the rows' configs: {'; '.join(parts)}."


def as_the_paper() -> str:
    return "The rows' configs as they are: the paper's data, network and length of training."


def describe(cfg: Any) -> str:
    """Network, data and length of a training, in short."""
    model = cfg.get('model') or {}
    dataset = (cfg.get('train_dataloader') or {}).get('dataset') or {}
    while 'dataset' in dataset:  # one that repeats another, for instance
        dataset = dataset.dataset
    parts = [
        f'network {_described(model.get("backbone") or {}, ("out_indices",))}',
        f'data {_described(dataset, ("seed", "label_seed", "split_seed"))}',
        f'batch {(cfg.get("train_dataloader") or {}).get("batch_size")} a process',
    ]
    for key, unit in (('max_epochs', 'epochs'), ('max_iters', 'iterations')):
        if cfg.train_cfg.get(key):
            parts.append(f'{cfg.train_cfg[key]} {unit}')
    return ', '.join(parts)


def _described(part: Any, without: Sequence[str]) -> str:
    numbers = [
        f'{key} {value}'
        for key, value in part.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and key not in without
    ]
    name = str(part.get('type', 'unknown')).rsplit('.', 1)[-1]
    return f'{name} ({", ".join(numbers)})' if numbers else name


# Arithmetic


@dataclass(frozen=True)
class Summary:
    """Figures over the seeds of a row; deviations are None for one seed."""

    count: int
    top1: float
    top1_deviation: Optional[float]
    top5: Optional[float]
    top5_deviation: Optional[float]
    best: Optional[float]
    best_deviation: Optional[float]
    seconds: Optional[float]
    memory: Optional[float]


def summarise(results: Sequence[Result]) -> Summary:
    def over(name: str) -> tuple[Optional[float], Optional[float]]:
        values = [getattr(result, name) for result in results]
        if None in values:  # a mean over some of the seeds would stand beside one over all
            return None, None
        spread = statistics.stdev(values) if len(values) > 1 else None
        return statistics.mean(values), spread

    seconds = [result.seconds for result in results if result.seconds]
    memory = [result.memory for result in results if result.memory]
    return Summary(
        len(results),
        *over('top1'),
        *over('top5'),
        *over('best'),
        statistics.median(seconds) if seconds else None,
        max(memory) if memory else None,
    )


@dataclass(frozen=True)
class Difference:
    """Ours minus the baseline's, in points; of common seeds if there are any."""

    mean: float
    error: Optional[float]  # standard error of the paired difference
    pairs: int


def difference(ours: Sequence[Result], baseline: Sequence[Result]) -> Optional[Difference]:
    """None without results of both."""
    if not ours or not baseline:
        return None
    by_seed = {result.seed: result.top1 for result in baseline if result.seed is not None}
    pairs = [result.top1 - by_seed[result.seed] for result in ours if result.seed in by_seed]
    if not pairs:
        mean = statistics.mean(r.top1 for r in ours) - statistics.mean(r.top1 for r in baseline)
        return Difference(mean, None, 0)
    count = len(pairs)
    error = statistics.stdev(pairs) / math.sqrt(count) if count > 1 else None
    return Difference(statistics.mean(pairs), error, count)


def mean_curve(results: Sequence[Result]) -> Points:
    """Mean over seeds at the iterations at which all were validated."""
    curves = [dict(result.curve) for result in results if result.curve]
    if not curves:
        return []
    steps = sorted(set(curves[0]).intersection(*curves[1:]))
    return [(step, statistics.mean(curve[step] for curve in curves)) for step in steps]


# The report, of parts that are written both as HTML and as Markdown


@dataclass
class Heading:
    level: int
    text: str
    anchor: str = ''


@dataclass
class Paragraph:
    text: str
    badge: str = ''


@dataclass
class Listing:
    """Points, each with a link if it has an anchor."""

    items: list[tuple[str, str]]  # text, anchor


@dataclass
class Facts:
    """What only some want to read."""

    title: str
    facts: list[tuple[str, str]]


@dataclass
class Grid:
    """A table.

    Args:
        caption: above it.
        columns: (group, name); the first is the rows' names.
        bodies: (title, rows); each cell is text.
    """

    caption: str
    columns: list[tuple[str, str]]
    bodies: list[tuple[str, list[list[str]]]]
    badge: str = ''


@dataclass
class Picture:
    name: str  # of the PNG file
    svg: str
    png: bytes
    alt: str
    caption: str
    badge: str = ''


Part = Union[Heading, Paragraph, Listing, Facts, Grid, Picture]


def number(value: Optional[float], deviation: Optional[float] = None, digits: int = 2) -> str:
    if value is None:
        return NOTHING
    return f'{value:.{digits}f}' + ('' if deviation is None else f' ± {deviation:.{digits}f}')


def signed(value: Optional[float]) -> str:
    return NOTHING if value is None else f'{value:+.2f}'.replace('-', '−')


def seeds(count: int) -> str:
    return f'{count} seed{"s" * (count != 1)}'


def told(one: Optional[Difference], count: int = 0) -> str:
    """A difference with its standard error, or why it has none; of ``count`` seeds, if it says so."""
    if one is None:
        return NOTHING
    if one.error is not None:
        pairs = '' if one.pairs == count else f' ({one.pairs} pairs)'
        return f'{signed(one.mean)} ± {one.error:.2f}{pairs}'
    return f'{signed(one.mean)} ({"1 pair" if one.pairs else "no common seed"})'


def compose(found: Found, title: str) -> list[Part]:
    """The whole report."""
    parts: list[Part] = [
        Heading(1, title),
        Paragraph(
            "Top-1 and top-5 are accuracies in per cent. Columns named “paper” hold the paper's own "
            'numbers (GradAug, NeurIPS 2020), all of them at full scale, none of them measured here. '
            'Columns named “ours” hold the mean ± deviation over seeds, of the final weights unless '
            'they say “best”: the highest of all validations, on the same test images and so '
            'flattering. A difference to the baseline is the mean over common seeds ± its standard '
            'error. Cost is the median time of an iteration, relative to the baseline.'
        ),
        Heading(2, 'Contents', 'contents'),
    ]
    contents = [
        (f'{scale.title} ({scale.badge}). {scale.sentence} {headline(scale)}', scale.anchor)
        for scale in found.scales
    ]
    idle = [t for t in TABLES if not any(_has_run(t, scale) for scale in found.scales)]
    if idle:
        contents.append((f'Without a run: {", ".join(_name(t) for t in idle)}', 'without-a-run'))
    if found.left_out:
        contents.append((f'Left out: {len(found.left_out)} unfinished or other runs', 'left-out'))
    parts.append(Listing(contents))
    for scale in found.scales:
        parts += _scale_parts(scale)
    if idle:
        parts.append(Heading(2, 'Without a run', 'without-a-run'))
        parts.append(Paragraph("The paper's numbers, and nothing of ours beside them."))
        for one in idle:
            parts += [Heading(3, one.title), grid(one, None), *_note(one)]
    if found.left_out:
        parts.append(Heading(2, 'Left out', 'left-out'))
        rows = [
            [r.label, NOTHING if r.seed is None else str(r.seed), reason, short(r.source)]
            for r, reason in found.left_out
        ]
        columns = [('', name) for name in ('Run', 'Seed', 'Why', 'Where')]
        parts.append(Grid('Runs that no figure above counts', columns, [('', rows)]))
    return parts


def _name(table: Table) -> str:
    return table.title.split(':')[0]


def _has_run(table: Table, scale: Scale) -> bool:
    return any(row.key in scale.results for row in table.rows)


def _note(table: Table) -> list[Part]:
    return [Paragraph(f'Note: {table.note}')] if table.note else []


def headline(scale: Scale) -> str:
    """GradAug against the baseline where both were run; chosen by the tables' order, not by outcome."""
    compared = [
        (table, row, base)
        for table in TABLES
        for row in table.rows
        if (base := baseline_of(row, table)) is not None
        and base.key != row.key
        and row.key in scale.results
        and base.key in scale.results
    ]
    if not compared:
        return 'No method was run beside its baseline.'
    table, row, base = next((one for one in compared if one[1].label == 'GradAug'), compared[0])
    ours, plain = scale.results[row.key], scale.results[base.key]
    of_ours, of_plain = summarise(ours), summarise(plain)
    text = (
        f'Ours, {_name(table)}: {row.label} {number(of_ours.top1, of_ours.top1_deviation)} '
        f'({seeds(of_ours.count)}), baseline {number(of_plain.top1, of_plain.top1_deviation)} '
        f'({seeds(of_plain.count)}), difference {told(difference(ours, plain))}'
    )
    longer = scale.results.get(base.key + EQUAL_COST)
    if longer:
        text += f'; to the baseline at equal cost {told(difference(ours, longer))}'
    return text + '.'


def _scale_parts(scale: Scale) -> list[Part]:
    parts: list[Part] = [
        Heading(2, scale.title, scale.anchor),
        Paragraph(scale.sentence, scale.badge),
        Paragraph(headline(scale)),
    ]
    as_run: dict[str, list[str]] = {}
    for key, results in scale.results.items():
        for result in results:
            named = f'{result.label}, equal cost' if key.endswith(EQUAL_COST) else result.label
            names = as_run.setdefault(result.as_run, [])
            if result.as_run and named not in names:
                names.append(named)
    as_run.pop('', None)
    parts.append(
        Facts(
            'What was run, and how',
            [(', '.join(names), text) for text, names in as_run.items()] + scale.facts,
        )
    )
    drawn: dict[str, str] = {}
    for table in TABLES:
        if not _has_run(table, scale):
            continue
        parts += [Heading(3, table.title), grid(table, scale), *_note(table)]
        parts += _figure2(table, scale) if table.axes else _curves(table, scale, drawn)
    idle = [_name(table) for table in TABLES if not _has_run(table, scale)]
    if idle:
        parts.append(Paragraph(f'At this scale there is no run of {", ".join(idle)}.'))
    return parts


def grid(table: Table, scale: Optional[Scale]) -> Grid:
    """A table of the paper with ours beside it."""
    top5 = any(row.top5 is not None for row in table.rows)
    columns = [('', 'Method'), ('paper', 'top-1'), ('paper', 'top-5'), ('paper', 'to baseline')]
    columns += [
        ('ours', name)
        for name in ('top-1', 'top-5', 'best top-1', 'to baseline', 'seeds')
        + ('iterations', 'cost/iteration', 'peak memory')
    ]
    bodies: list[tuple[str, list[list[str]]]] = []
    for row in table.rows:
        group = f'In the paper: {row.network}, {row.dataset}'
        if not bodies or bodies[-1][0] != group:
            bodies.append((group, []))
        base = baseline_of(row, table)
        is_base = base is not None and base.key == row.key
        paper = None
        if not is_base and base is not None and None not in (row.top1, base.top1):
            paper = row.top1 - base.top1
        of_paper = [
            number(row.top1, row.top1_std),
            number(row.top5),
            NOTHING if is_base else signed(paper),
        ]
        cells = _ours(row.key, base and base.key, scale)
        bodies[-1][1].append([row.label, *of_paper, *cells])
        longer = row.key + EQUAL_COST
        if is_base and scale is not None and longer in scale.results:
            cells = _ours(longer, row.key, scale)
            bodies[-1][1].append(['Baseline, at equal cost', *[NOTHING] * 3, *cells])
    if scale is None:
        columns = [*columns[:4], ('ours', 'top-1')]
        bodies = [(group, [row[:5] for row in rows]) for group, rows in bodies]
    if not top5:
        keep = [i for i, column in enumerate(columns) if column[1] != 'top-5']
        columns = [columns[i] for i in keep]
        bodies = [(group, [[row[i] for i in keep] for row in rows]) for group, rows in bodies]
    return Grid(table.title, columns, bodies, scale.badge if scale else '')


def _ours(key: str, base: Optional[str], scale: Optional[Scale]) -> list[str]:
    results = scale.results.get(key, []) if scale else []
    if scale is None or not results:
        return [NO_RUN, *[NOTHING] * 7]
    plain = scale.results.get(base or '', [])
    mine = summarise(results)
    lengths = sorted({result.iterations for result in results if result.iterations})
    length = ' to '.join(f'{one:,}' for one in dict.fromkeys([*lengths[:1], *lengths[-1:]]))
    epochs = {result.epochs for result in results} - {None}
    if len(epochs) == 1:
        length += f' ({epochs.pop()} epochs)'
    cost = NOTHING
    if mine.seconds:
        cost = f'{mine.seconds:.2g} s'
        if plain and (of_plain := summarise(plain).seconds):
            cost = f'{mine.seconds / of_plain:.2f} × ({cost})'
    return [
        number(mine.top1, mine.top1_deviation),
        number(mine.top5, mine.top5_deviation),
        number(mine.best, mine.best_deviation),
        NOTHING
        if key == base
        else told(difference(results, plain), mine.count)
        if plain
        else 'no baseline',
        str(mine.count),
        length or NOTHING,
        cost,
        NOTHING if mine.memory is None else f'{mine.memory:,.0f} MB',
    ]


# Figures

INK = '#010203'  # in the SVG, replaced by the text's colour, which is light on a dark page
COLOURS = ('#7f7f7f', '#d62728', '#2a86c8', '#2ca02c', '#e07b00', '#9467bd', '#a0694f', '#e377c2')
DASHES = ('-', '--', '-.', ':')


def render(draw: Callable[[Any], None], name: str, badge: str) -> tuple[str, bytes]:
    """A figure as SVG for the page, in the page's colours, and as PNG."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    outputs = []
    for kind, ink in (('svg', INK), ('png', 'black')):
        look = dict.fromkeys(
            ('text.color', 'axes.edgecolor', 'axes.labelcolor', 'xtick.color', 'ytick.color'), ink
        )
        look |= {'svg.fonttype': 'none', 'svg.hashsalt': name, 'legend.frameon': False}
        look |= {'axes.spines.top': False, 'axes.spines.right': False, 'font.size': 10}
        with matplotlib.rc_context(look):
            figure = pyplot.figure(figsize=(8.5, 4), layout='constrained')
            draw(figure)
            figure.suptitle(f'ours; {badge}', fontsize=10)  # the picture may be passed on alone
            file = io.BytesIO()
            # The same figures give the same file.
            data = {'Date': None} if kind == 'svg' else {'Software': MARK}
            figure.savefig(file, format=kind, dpi=120, metadata=data, transparent=kind == 'svg')
            pyplot.close(figure)
        outputs.append(file.getvalue())
    return _inline(outputs[0].decode(), name), outputs[1]


def _inline(svg: str, name: str) -> str:
    """An SVG file as a part of a page, with ids of its own."""
    svg = svg[svg.index('<svg') :]
    svg = re.sub(r'<metadata>.*?</metadata>', '', svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(href="#|url\(#)', rf'\g<1>{name}-', svg)
    svg = re.sub(r"font: ([^;\"]*?)'DejaVu Sans'[^;\"]*", r'font: \1sans-serif', svg)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r'\1', svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r'\1', svg, count=1)
    return svg.replace(INK, 'currentColor').strip()


def _curves(table: Table, scale: Scale, drawn: dict[str, str]) -> list[Part]:
    """Top-1 over iterations, a figure for each network and data of the table.

    Args:
        drawn: by key the table that a curve was first drawn for; added to.
    """
    groups: dict[tuple[str, str], list[tuple[str, Points]]] = {}
    keys: dict[tuple[str, str], list[str]] = {}
    for row in table.rows:
        for key, label in (
            (row.key, row.label),
            (row.key + EQUAL_COST, f'{row.label}, equal cost'),
        ):
            results = scale.results.get(key, [])
            if len(curve := mean_curve(results)) > 1:
                of = (row.network, row.dataset)
                keys.setdefault(of, []).append(key)
                groups.setdefault(of, []).append(
                    (f'{label} ({len([r for r in results if r.curve])})', curve)
                )
    parts: list[Part] = []
    for i, (of, lines) in enumerate(groups.items(), 1):
        if all(key in drawn for key in keys[of]):
            before = ', '.join(dict.fromkeys(drawn[key] for key in keys[of]))
            parts.append(Paragraph(f'The curves of {of[0]} on {of[1]} are those of {before}.'))
            continue
        for key in keys[of]:
            drawn.setdefault(key, _name(table))

        def draw(figure: Any, lines: list[tuple[str, Points]] = lines) -> None:
            axes = figure.subplots()
            for j, (label, curve) in enumerate(lines):
                # Told apart without colours too: by their dashes.
                look = {'color': COLOURS[j % len(COLOURS)], 'linestyle': DASHES[j % len(DASHES)]}
                axes.plot(*zip(*curve), label=label, linewidth=2, **look)
            axes.set_xlabel('iterations')
            axes.set_ylabel('top-1 %, mean over seeds')
            axes.set_xlim(left=0)
            axes.xaxis.set_major_formatter('{x:,.0f}')
            axes.grid(alpha=0.3)
            figure.legend(loc='outside right upper', title='method (seeds)')

        name = f'{scale.anchor}-{table.name}-curves{i}'
        ends = '; '.join(f'{label}: {curve[-1][1]:.2f} at the end' for label, curve in lines)
        caption = (
            f'Ours: top-1 over iterations, mean over seeds. Rows of {_name(table)} that the paper has '
            f'for {of[0]} on {of[1]}.'
        )
        svg, png = render(draw, name, scale.badge)
        parts.append(Picture(name, svg, png, f'{caption} {ends}.', caption, scale.badge))
    return parts


def _figure2(table: Table, scale: Scale) -> list[Part]:
    """Accuracy over the values of each axis."""
    row = table.rows[0]
    base = baseline_of(row, table)
    plain = scale.results.get(base.key, []) if base else []
    series = []
    for axis in table.axes:
        points = []
        for row in table.rows:
            name, _, value = row.label.partition(' = ')
            if name == axis and row.key in scale.results:
                points.append((float(value), summarise(scale.results[row.key])))
        series.append((axis, points))
    if all(len(points) < 2 for _, points in series):
        return [Paragraph('No plot: fewer than two points on either axis have a run.')]

    def draw(figure: Any) -> None:
        all_axes = figure.subplots(1, len(series), sharey=True)
        for axes, (axis, points) in zip(all_axes, series):
            if plain:
                axes.axhline(
                    summarise(plain).top1, color=COLOURS[0], linestyle='--', label='Baseline'
                )
            if points:
                axes.errorbar(
                    [value for value, _ in points],
                    [one.top1 for _, one in points],
                    [one.top1_deviation or 0 for _, one in points],
                    color=COLOURS[1],
                    marker='o',
                    capsize=4,
                    linewidth=2,
                    label='GradAug',
                )
                axes.set_xticks([value for value, _ in points])
            names = {'n': 'number of sub-networks n', 'alpha': 'width lower bound alpha'}
            axes.set_xlabel(names.get(axis, axis))
            axes.grid(alpha=0.3)
        all_axes[0].set_ylabel('top-1 %')
        handles, labels = all_axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc='outside lower center', ncols=2)

    caption = 'Ours: top-1 of the final weights, mean over seeds; bars: one deviation'
    caption += '; dashed: the baseline.' if plain else '. The baseline has no run.'
    ends = '; '.join(
        f'{axis} = {value:g}: {number(one.top1, one.top1_deviation)}'
        for axis, points in series
        for value, one in points
    )
    name = f'{scale.anchor}-{table.name}'
    svg, png = render(draw, name, scale.badge)
    return [Picture(name, svg, png, f'{caption} {ends}.', caption, scale.badge)]


# Writing

STYLE = """
:root { color-scheme: light dark; --ink: #1c1f23; --page: #fff; --soft: #5a626b; --line: #d5d9de;
  --ours: #eef5fc; --head: #f3f4f6; --link: #0b5cad; --small: #8a3b00; --small-bg: #fff0e0;
  --full: #12602b; --full-bg: #e4f6e9; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --page: #15181c; --soft: #a7afb9;
  --line: #3a4048; --ours: #1b2733; --head: #20252b; --link: #7db8f5; --small: #ffc690;
  --small-bg: #44290f; --full: #9fe0b1; --full-bg: #163a22; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: 1rem 1rem 4rem; }
h1, h2, h3 { line-height: 1.25; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; } h2 { margin-top: 3rem; padding-top: 1rem; border-top: 2px solid var(--line); }
h3 { margin-top: 2rem; }
p, li, dd { max-width: 52rem; overflow-wrap: anywhere; }
li { margin: .4rem 0; } a { color: var(--link); }
.badge { display: inline-block; padding: .1rem .6rem; border-radius: 1rem; font-size: .85rem;
  font-weight: 600; color: var(--small); background: var(--small-bg); border: 1px solid currentColor; }
.badge.full { color: var(--full); background: var(--full-bg); }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: .5rem; margin: .5rem 0 1rem; }
.scroll:focus-visible { outline: 3px solid var(--link); }
table { border-collapse: collapse; min-width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: .6rem; font-weight: 600; }
caption span.name { position: sticky; left: .6rem; display: inline-block; max-width: calc(100vw - 4rem); }
th, td { padding: .4rem .45rem; border-top: 1px solid var(--line); text-align: right; white-space: nowrap; }
th { background: var(--head); font-weight: 600; }
th[scope=col] { white-space: normal; min-width: 4.5rem; vertical-align: bottom; }
th[scope=row] { position: sticky; left: 0; white-space: normal; min-width: 7.5rem; }
thead tr:first-child th:first-child { text-align: left; }
th[scope=row], .text td, .text th { text-align: left; }
.text td { white-space: normal; overflow-wrap: anywhere; min-width: 8rem; }
th[scope=rowgroup] { text-align: left; color: var(--soft); }
th[scope=rowgroup] span { position: sticky; left: .6rem; }
th[scope=colgroup] { text-align: left; }
td.ours { background: var(--ours); } td.none { color: var(--soft); }
figure { margin: 1rem 0; padding: .75rem; border: 1px solid var(--line); border-radius: .5rem; }
figure > div { overflow-x: auto; } figure svg { display: block; width: 100%; min-width: 34rem;
  max-width: 56rem; height: auto; margin: 0 auto; }
figcaption { color: var(--soft); font-size: .9rem; max-width: 52rem; }
details { margin: 1rem 0; } summary { cursor: pointer; color: var(--link); }
dt { font-weight: 600; } dd { margin: 0 0 .6rem 1rem; white-space: pre-wrap; font-size: .9rem; }
footer { margin-top: 3rem; color: var(--soft); font-size: .85rem; }
"""


def _badge(badge: str) -> str:
    if not badge:
        return ''
    kind = 'badge full' if badge == PAPER else 'badge'
    return f' <span class="{kind}">{html.escape(badge)}</span>'


def as_html(parts: Sequence[Part], title: str, created: str) -> str:
    """One page that needs nothing else."""
    body = '\n'.join(_part_as_html(part) for part in parts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="generator" content="{MARK}">\n<title>{html.escape(title)}</title>\n'
        f'<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n'
        f'<footer>{created}, {MARK}</footer>\n</main>\n</body>\n</html>\n'
    )


def _part_as_html(part: Part) -> str:
    escape = html.escape
    if isinstance(part, Heading):
        anchor = f' id="{part.anchor}"' if part.anchor else ''
        return f'<h{part.level}{anchor}>{escape(part.text)}</h{part.level}>'
    if isinstance(part, Paragraph):
        return f'<p>{_badge(part.badge)} {escape(part.text)}</p>'
    if isinstance(part, Listing):
        items = []
        for text, anchor in part.items:
            name, stop, rest = text.partition('. ' if '. ' in text else ': ')
            items.append(f'<li><a href="#{anchor}">{escape(name)}</a>{escape(stop + rest)}</li>')
        return '<nav aria-label="Contents"><ul>\n' + '\n'.join(items) + '\n</ul></nav>'
    if isinstance(part, Facts):
        if not part.facts:
            return ''
        facts = ''.join(f'<dt>{escape(n)}</dt><dd>{escape(text)}</dd>' for n, text in part.facts)
        return f'<details><summary>{escape(part.title)}</summary><dl>{facts}</dl></details>'
    if isinstance(part, Picture):
        # Of a picture that is one, the texts in it are not read out one by one.
        svg = part.svg.replace('<svg', f'<svg role="img" aria-label="{escape(part.alt)}"', 1)
        return (
            f'<figure><div tabindex="0" role="group" aria-label="Figure, scrolls sideways">{svg}</div>'
            f'<figcaption>{escape(part.caption)}{_badge(part.badge)}</figcaption></figure>'
        )
    return _grid_as_html(part)


def _grid_as_html(part: Grid) -> str:
    escape = html.escape
    groups: list[list[Any]] = []
    for group, _ in part.columns:
        if groups and groups[-1][0] == group:
            groups[-1][1] += 1
        else:
            groups.append([group, 1])
    lines = []
    names = [name for _, name in part.columns]
    if len(groups) > 1:
        names = names[1:]
        heads = {'paper': "The paper's numbers", 'ours': 'Ours'}
        cells = [f'<th scope="col" rowspan="2">{escape(part.columns[0][1])}</th>']
        for group, count in groups[1:]:
            # The caption's badge may be out of sight on the left.
            text = escape(heads[group]) + (_badge(part.badge) if group == 'ours' else '')
            cells.append(f'<th scope="colgroup" colspan="{count}">{text}</th>')
        lines.append(f'<tr>{"".join(cells)}</tr>')
        kinds = [kind for kind, _ in part.columns[1:]]
        cells = [f'<th scope="col">{kind}: {escape(n)}</th>' for kind, n in zip(kinds, names)]
    else:
        cells = [f'<th scope="col">{escape(n)}</th>' for n in names]
    lines.append(f'<tr>{"".join(cells)}</tr>')
    head = '<thead>' + ''.join(lines) + '</thead>'
    bodies = []
    for title, rows in part.bodies:
        lines = []
        if title:
            lines.append(
                f'<tr><th scope="rowgroup" colspan="{len(part.columns)}">'
                f'<span>{escape(title)}</span></th></tr>'
            )
        for row in rows:
            cells = [f'<th scope="row">{escape(row[0])}</th>']
            for (group, _), text in zip(part.columns[1:], row[1:]):
                kind = f'{group}{" none" * (text in (NO_RUN, NOTHING))}'.strip()
                kind = f' class="{kind}"' if kind else ''
                cells.append(f'<td{kind}>{escape(text)}</td>')
            lines.append(f'<tr>{"".join(cells)}</tr>')
        bodies.append('<tbody>' + '\n'.join(lines) + '</tbody>')
    name = f'<span class="name">{escape(part.caption)}{_badge(part.badge)}</span>'
    caption = f'<caption>{name}</caption>'
    kind = '' if len(groups) > 1 else ' class="text"'
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(part.caption)}">'
        f'<table{kind}>{caption}{head}\n{"".join(bodies)}</table></div>'
    )


def as_markdown(parts: Sequence[Part], created: str) -> str:
    """The same, with the figures as files beside it."""
    blocks = [f'<!-- {MARK} -->']
    for part in parts:
        if isinstance(part, Heading):
            blocks.append(f'{"#" * part.level} {_plain(part.text)}')
        elif isinstance(part, Paragraph):
            badge = f'**{_plain(part.badge)}** ' if part.badge else ''
            blocks.append(badge + _plain(part.text))
        elif isinstance(part, Listing):
            blocks.append('\n'.join(f'- {_plain(text)}' for text, _ in part.items))
        elif isinstance(part, Facts):
            lines = [f'- {_plain(n)}: {_plain(" ".join(text.split()))}' for n, text in part.facts]
            blocks += [f'{part.title}:', '\n'.join(lines)] if lines else []
        elif isinstance(part, Picture):
            blocks.append(f'![{_plain(part.alt)}]({part.name}.png)')
            badge = f' **{_plain(part.badge)}**' if part.badge else ''
            blocks.append(f'{_plain(part.caption)}{badge}')
        else:
            if part.badge:
                blocks.append(f'Ours: **{_plain(part.badge)}**')
            names = [f'{group}: {name}' if group else name for group, name in part.columns]
            lines = [names, ['---', *['--:'] * (len(names) - 1)]]
            for title, rows in part.bodies:
                if title:
                    lines.append([f'*{_plain(title)}*', *[''] * (len(names) - 1)])
                lines += [[_plain(cell) for cell in row] for row in rows]
            blocks.append('\n'.join(f'| {" | ".join(line)} |' for line in lines))
    return '\n\n'.join([*blocks, f'{created}, {MARK}']) + '\n'


def _plain(text: str) -> str:
    return re.sub(r'([\\`*_\[\]<>|])', r'\\\1', text)


def write(out: Path, files: dict[str, bytes]) -> None:
    """Write a report in place of an earlier one.

    Raises:
        UserError: something else is in its place.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f'{out} is not a folder')
    for name in files:
        if (out / name).exists() and not _is_ours(out / name):
            raise UserError(
                f'{short(out / name)} is no earlier report, so it stays as it is. Name another folder '
                'with --out'
            )
    out.mkdir(parents=True, exist_ok=True)
    earlier = [file for file in out.glob('*.png') if _is_ours(file)]
    for name, content in files.items():
        temporary = out / f'.{name}.{os.getpid()}.tmp'
        try:
            temporary.write_bytes(content)
            temporary.replace(out / name)
        finally:
            temporary.unlink(missing_ok=True)
    for file in earlier:
        if file.name not in files:
            file.unlink()


def _is_ours(file: Path) -> bool:
    return file.is_file() and MARK.encode() in file.read_bytes()


def report(args: argparse.Namespace) -> None:
    """Read, and write.

    Raises:
        UserError: there is nothing to report, or something else in its place.
    """
    check_installed('the report', {'matplotlib': 'matplotlib'}, ('mmengine',))
    found = read_work_dirs(args.work_dirs)
    parts = compose(found, args.title)
    created = datetime.now().astimezone().isoformat(timespec='seconds')
    files = {f'{part.name}.png': part.png for part in parts if isinstance(part, Picture)}
    files['report.md'] = as_markdown(parts, created).encode()
    files['index.html'] = as_html(parts, args.title, created).encode()
    write(args.out, files)
    rows = [('scale', 'rows', 'runs')]
    for scale in found.scales:
        runs = sum(map(len, scale.results.values()))
        rows.append((f'{scale.title} ({scale.badge})', str(len(scale.results)), str(runs)))
    rows.append(('left out', '', str(len(found.left_out))))
    print(f'{in_columns(rows)}\n\nReport: {short(args.out / "index.html")} and report.md beside it')


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Put what runs left beside the paper's tables: index.html, one page that needs "
        'nothing else, and report.md with its figures. Runs of different scales are never averaged, '
        "and each says whether it is the paper's setting.",
        epilog='Examples: python tools/report.py work_dirs/sweep; python tools/report.py work_dirs '
        '--out work_dirs/report --title "CIFAR-100, three seeds"',
    )
    parser.add_argument(
        'work_dirs',
        nargs='+',
        type=Path,
        metavar='WORK_DIR',
        help='of tools/sweep.py or tools/train.py, or a folder that has such folders below',
    )
    parser.add_argument(
        '--out',
        type=Path,
        default=ROOT / 'work_dirs' / 'report',
        metavar='DIR',
        help='where the report goes (default: work_dirs/report in the repository)',
    )
    parser.add_argument(
        '--title', default="GradAug: our runs beside the paper's tables", metavar='TEXT'
    )
    return parser.parse_args(argv)


def main() -> int:
    args = parse_args()
    return run_tool('report', lambda: report(args))


if __name__ == '__main__':
    sys.exit(main())
