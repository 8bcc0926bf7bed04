#!/usr/bin/env python
"""Train the rows of the paper's tables, or any configs, with several seeds each."""

import argparse
import ast
import fcntl
import hashlib
import json
import os
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Optional

from paper_tables import TABLES, Row
from training_runs import (
    ROOT,
    Metric,
    Progress,
    Run,
    UserError,
    cost_ratio,
    in_columns,
    mean_and_deviation,
    read_config,
    run_tool,
    short,
    surroundings,
    train_all,
    usable_cpus,
)

TOP1 = Metric('top1', 'accuracy/top1', 'top-1', 'top-1 %', unit=' %')
TOP5 = Metric('top5', 'accuracy/top5', 'top-5', 'top-5 %', unit=' %', required=False)
PACKAGES = ('torch', 'mmengine', 'mmpretrain', 'mmgradaug')
OTHERS = 'configs'  # as a table's name: those given by path
EQUAL_COST = '+equal_cost'  # at the end of a key
# What this tool sets itself in each run.
OWN_SETTINGS = ('randomness.seed', 'work_dir', 'train_dataloader.dataset.split_file')
# Overrides of these go to the models that have them alone; the longest first.
METHOD_SETTINGS = ('model.gradaug.unlabelled', 'model.gradaug', 'model.mean_teacher')
# Of datasets that draw their images: the seed of a run is theirs too.
DATASET_SEEDS = ('label_seed', 'split_seed')
FOLD = 'train_dataloader.dataset.fold'
# Of a parameter scheduler: what is in epochs or iterations.
LENGTHS = ('begin', 'end', 'T_max', 'milestones', 'step_size', 'total_iters', 'total_steps')
WAITING, RUNNING, DONE, FAILED = 'waiting', 'running', 'done', 'failed'


@dataclass(frozen=True)
class Overlay:
    """A small config file that is put on top of every config.

    Args:
        text: all of it.
        body: without comments and without ``scale``, so that another wording is no other setting.
        scale: the sentence that says at which scale it runs.
    """

    text: str
    body: str
    scale: Optional[str]

    @property
    def name(self) -> str:
        return hashlib.sha256(self.body.encode()).hexdigest()[:8]


@dataclass(eq=False)
class Item:
    """What is trained once for each seed, wherever it stands in the tables.

    Args:
        row: of one of the tables, or made for a config given by path.
        tables: by name, those asked for that have it.
        labels: in each of these.
        config: the file that is trained: the row's, or one generated from it.
        cfg: what it says, options included; None while its config does not exist.
        options: of each run, but for the seed's.
        plain: of a run at equal cost: the item whose cost is made equal.
        metric: what is compared; another than top-1 stands in the labels.
    """

    row: Row
    tables: list[str] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    config: Path = ROOT
    cfg: Any = None
    options: list[str] = field(default_factory=list)
    plain: Optional['Item'] = None
    metric: Metric = TOP1

    @property
    def key(self) -> str:
        return self.plain.row.key + EQUAL_COST if self.plain else self.row.key

    @property
    def base(self) -> Path:
        return _config_path(self.row)

    @property
    def length(self) -> tuple[str, int]:
        """'epochs' or 'iterations', and how many."""
        loop = self.cfg.train_cfg
        kind = loop.get('type', '')  # in new-style configs the class itself
        by_epoch = 'EpochBasedTrainLoop' in getattr(kind, '__name__', kind) or (
            'type' not in loop and loop.get('by_epoch', True)
        )
        name, key = ('epochs', 'max_epochs') if by_epoch else ('iterations', 'max_iters')
        if key not in loop:
            raise UserError(f'{short(self.base)}: its train_cfg has no {key}')
        return name, loop[key]


def _config_path(row: Row) -> Path:
    return ROOT / 'configs' / row.config  # a config elsewhere has an absolute path


def select(
    names: Sequence[str], only: Sequence[str], keys: Optional[Sequence[str]] = None
) -> list[Item]:
    """The rows of tables, and configs by path, each training once; with ``keys``, these rows alone.

    Raises:
        UserError: there is no such table or config, or nothing is left.
    """
    tables = {table.name: table for table in TABLES}
    items: dict[str, Item] = {}
    for name in names:
        if name in tables:
            chosen = [(row, name) for row in tables[name].rows]
        elif (path := _find(name)) is not None:
            chosen = [(_row_of(path), OTHERS)]
        else:
            raise UserError(
                f'{name} is neither a table nor a config file. Tables: {", ".join(tables)}; '
                'a config by its path, configs/imagenet/baseline_r50.py for instance'
            )
        for row, table in chosen:
            if only and not any(part in row.key for part in only):
                continue
            if keys is not None and row.key not in keys:
                continue
            item = items.setdefault(row.key, Item(row))
            if item.base != _config_path(row):
                raise UserError(
                    f'{short(item.base)} and {short(_config_path(row))} have the same name, by which '
                    'results are told apart: rename one, or use another --work-dir'
                )
            if table not in item.tables:
                item.tables.append(table)
            item.labels.setdefault(table, row.label)
    if not items:
        keys = dict.fromkeys(
            row.key for name in names if name in tables for row in tables[name].rows
        )
        raise UserError(f'--only {" ".join(only)} leaves nothing of: {", ".join(keys)}')
    return list(items.values())


def _find(name: str) -> Optional[Path]:
    for path in (Path(name), ROOT / name, ROOT / 'configs' / name):
        if path.is_file():
            return path.resolve()
    return None


def _row_of(path: Path) -> Row:
    """A table's, if one has it without options."""
    for row in (row for table in TABLES for row in table.rows):
        if not row.options and _config_path(row).resolve() == path:
            return row
    folder = ROOT / 'configs'
    name = str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)
    return Row(path.stem, name, '', '')


def read_overlay(file: Optional[Path]) -> Optional[Overlay]:
    """Raises UserError if it is no config, or one with bases."""
    if file is None:
        return None
    if not file.is_file():
        raise UserError(f'--overlay: no such file: {file}')
    text = file.read_text()
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise UserError(f'--overlay {file}, line {error.lineno}: {error.msg}') from error
    scale, body = None, []
    for statement in tree.body:
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        names = [target.id for target in targets if isinstance(target, ast.Name)]
        if '_base_' in names:
            raise UserError(
                f"--overlay {file}: it is put on top of each row's config, which is its base; "
                'leave _base_ out'
            )
        if names == ['scale']:
            try:
                scale = str(ast.literal_eval(statement.value))
            except ValueError:
                raise UserError(
                    f'--overlay {file}: scale must be a plain string, as in '
                    "scale = 'CIFAR-100, 4,000 images, 20 epochs'"
                ) from None
        else:
            body.append(statement)
    plain = ast.unparse(ast.Module(body, []))
    return Overlay(text, plain, scale)


def prepare(items: Sequence[Item], overlay: Optional[Overlay], args: argparse.Namespace) -> None:
    """Say for each what it trains; make the configs that the overlay asks for.

    Raises:
        UserError: a config is missing or cannot be read.
    """
    missing = [short(item.base) for item in items if not item.base.is_file()]
    if missing and not args.list:
        raise UserError(
            'no such config: '
            + ', '.join(dict.fromkeys(missing))
            + '. To train the other rows, name '
            'them with --only'
        )
    for item in items:
        if not item.base.is_file():
            continue
        item.config = item.base
        if overlay is not None:
            # By what the overlay says: never over a config that something was trained with.
            item.config = args.work_dir / 'configs' / overlay.name / f'{item.base.stem}.py'
            text = f'_base_ = {str(item.base)!r}\n\n{overlay.body}\n'
            if not item.config.is_file() or item.config.read_text() != text:
                item.config.parent.mkdir(parents=True, exist_ok=True)
                item.config.write_text(text)
        try:
            cfg = read_config(item.config)
            options = [o for o in args.cfg_options if _concerns(o, cfg.model)]
            own = {option.split('=')[0] for option in item.row.options}
            for option in options:
                if option.split('=')[0] in own:
                    raise UserError(
                        f'--cfg-options {option} would make another row of {item.row.key}: leave it out'
                    )
            item.options = [*item.row.options, *options]
            cfg.merge_from_dict(_parsed(item.options))
        except UserError:
            raise
        except Exception as error:
            what = f' with --overlay {args.overlay}' if overlay else ''
            raise UserError(f'{short(item.base)}{what}: {error}') from error
        item.cfg = cfg
        item.metric = metric_of(item)
        if item.metric is not TOP1:
            item.row = replace(item.row, label=f'{item.row.label} [{item.metric.log_key}]')
            item.labels = dict.fromkeys(item.labels, item.row.label)
        item.options += _needed_options(item)


def metric_of(item: Item) -> Metric:
    """What the config is judged by; kept where top-1 is, in the results and in their table.

    Raises:
        UserError: it has nothing that can be compared: better said before the training than after it.
    """
    from mmgradaug.evaluation.main_metric import main_metric

    try:
        name = main_metric(item.cfg)
    except ValueError as error:
        raise UserError(f'{short(item.base)}: {error}') from error
    if name == TOP1.log_key:
        return TOP1
    # Average precision of detections is in [0, 1], all else in per cent.
    factor = 100.0 if name.startswith('coco/') else 1.0
    return replace(TOP1, log_key=name, name=name, title=name, factor=factor)


def _concerns(option: str, model: Any) -> bool:
    """Whether an override is for this model: those of a method are for models that have it."""
    for part in METHOD_SETTINGS:
        if option.startswith((f'{part}.', f'{part}=')):
            for key in part.split('.')[1:]:
                model = model.get(key) or {}
            return bool(model)
    return True


def _parsed(options: Sequence[str]) -> dict[str, Any]:
    """As tools/train.py reads them."""
    from mmengine.config import DictAction

    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='*', action=DictAction)
    return parser.parse_args(['--cfg-options', *options]).cfg_options or {}


def _needed_options(item: Item) -> list[str]:
    """Without which the log would lack what is read from it."""
    logger = item.cfg.get('default_hooks', {}).get('logger', {})
    unit, length = item.length
    options = []
    if logger.get('log_metric_by_epoch', True) != (unit == 'epochs'):
        options.append(f'default_hooks.logger.log_metric_by_epoch={unit == "epochs"}')
    if item.cfg.get('log_processor', {}).get('by_epoch', True) != (unit == 'epochs'):
        options.append(f'log_processor.by_epoch={unit == "epochs"}')
    if unit == 'iterations' and logger.get('interval', 10) > length:
        options.append(f'default_hooks.logger.interval={max(1, length // 4)}')
    return options


def make_run(item: Item, seed: int, args: argparse.Namespace) -> Run:
    unit, length = item.length
    dataset = item.cfg.train_dataloader.get('dataset', {})
    options = [
        *item.options,
        f'randomness.seed={seed}',
        *(f'train_dataloader.dataset.{key}={seed}' for key in DATASET_SEEDS if key in dataset),
    ]
    if args.by_fold:
        options.append(f'{FOLD}={seed}')
    if 'split_file' in dataset:
        options.append(f'train_dataloader.dataset.split_file={split_file(dataset, seed, args)}')
    arguments = []
    if args.auto_scale_lr and 'base_batch_size' in (item.cfg.get('auto_scale_lr') or {}):
        arguments.append('--auto-scale-lr')
    if args.slurm:
        arguments.append('--launcher=slurm')
    return Run(
        item.key,
        seed,
        length if unit == 'iterations' else 0,
        run_dir(item.key, seed, args),
        config=item.config,
        options=options,
        metrics=(item.metric, TOP5),
        epochs=length if unit == 'epochs' else None,
        arguments=arguments,
        on_gpu=args.device == 'gpu',
    )


def run_dir(key: str, seed: int, args: argparse.Namespace) -> Path:
    return args.work_dir / 'runs' / key / f'seed{seed}'


def split_file(dataset: Any, seed: int, args: argparse.Namespace) -> Path:
    """Which images have labels; one file for all methods."""
    name = dataset.get('of', 'dataset').rsplit('.', 1)[-1].lower()
    part = 'fold' if args.by_fold else 'split'
    return args.work_dir / 'splits' / f'{name}_{dataset.get("num_labels")}_{part}{seed}.json'


def partner_key(key: str) -> list[str]:
    """What the GradAug row of a plain baseline may be called."""
    other = key.replace('baseline', 'gradaug')
    return [other, f'{other}_imagenet']


def equal_cost_items(items: Sequence[Item]) -> list[tuple[Item, Item, Item]]:
    """Plain, GradAug and, not yet prepared, plain at equal cost.

    Raises:
        UserError: there is no baseline, or one without GradAug beside it.
    """
    by_key = {item.key: item for item in items}
    triples = []
    for plain in items:
        # The quick starts have it at another place than the tables.
        if 'baseline' not in plain.row.config.rsplit('/', 1)[-1]:
            continue
        wanted = partner_key(plain.key)
        ours = next((by_key[key] for key in wanted if key in by_key), None)
        if ours is None:
            raise UserError(
                f'--equal-cost makes {plain.key} as expensive as {" or ".join(wanted)}, which must be '
                'in the same sweep: name its table or config as well, and let --only leave it in'
            )
        longer = Item(plain.row, list(plain.tables), plain=plain)
        longer.labels = {table: f'{label}, equal cost' for table, label in plain.labels.items()}
        triples.append((plain, ours, longer))
    if not triples:
        raise UserError('--equal-cost is for plain baselines, and there is none among the rows')
    return triples


def stretch(plain: Item, longer: Item, ratio: float) -> None:
    """Prepare an item for as many times the cost."""
    unit, length = plain.length
    # Whole log intervals, so that the last iterations are in the log.
    whole = 1 if unit == 'epochs' else _log_interval(plain)
    new = max(1, round(length * ratio / whole)) * whole
    key = 'max_epochs' if unit == 'epochs' else 'max_iters'
    options = [f'train_cfg.{key}={new}']
    # As many evaluations: otherwise the best of more of them would be compared.
    interval = plain.cfg.train_cfg.get('val_interval', 1)
    options.append(f'train_cfg.val_interval={max(1, round(interval * new / length))}')
    schedulers = plain.cfg.get('param_scheduler') or []
    several = isinstance(schedulers, (list, tuple))
    for i, scheduler in enumerate(schedulers if several else [schedulers]):
        name = f'param_scheduler.{i}' if several else 'param_scheduler'
        for key in LENGTHS:
            value = scheduler.get(key)
            if isinstance(value, (list, tuple)):
                scaled = ','.join(str(round(v * new / length)) for v in value)
                options.append(f'{name}.{key}=[{scaled}]')
            elif isinstance(value, (int, float)) and 0 < value < float('inf'):
                options.append(f'{name}.{key}={max(1, round(value * new / length))}')
    longer.config, longer.metric = plain.config, plain.metric
    longer.options = [*plain.options, *options]
    longer.cfg = type(plain.cfg)(plain.cfg.to_dict())
    longer.cfg.merge_from_dict(_parsed(options))


def _log_interval(item: Item) -> int:
    interval = item.cfg.get('default_hooks', {}).get('logger', {}).get('interval', 10)
    return interval if interval <= item.length[1] else 1


class Record:
    """sweep.json: what was asked for, and what became of each run.

    Runs of earlier commands with the same overlay and options stay in it.
    """

    def __init__(self, args: argparse.Namespace, overlay: Optional[Overlay]) -> None:
        self.file = args.work_dir / 'sweep.json'
        self.folder = args.work_dir
        self.old: dict[str, Any] = {}
        if self.file.is_file():
            try:
                self.old = json.loads(self.file.read_text())
            except ValueError as error:
                raise UserError(f'{short(self.file)} is not JSON; move it away') from error
        self.body = overlay.body if overlay else None
        self.data = {
            'command': shlex.join(args.tool),
            'created': datetime.now().astimezone().isoformat(timespec='seconds'),
            'commit': None,
            'dirty': None,
            'scale': overlay.scale if overlay else None,
            'overlay': overlay.text if overlay else None,
            'overlay_body': self.body,
            'cfg_options': args.cfg_options,
            'seeds': list(range(args.seeds)),
            'setting': {},
            'equal_cost': {},
            'runs': [],
        }
        if self.same_setting:
            self.data['equal_cost'] = dict(self.old.get('equal_cost', {}))
            self.data['runs'] = [
                {**entry, 'status': WAITING if entry['status'] == RUNNING else entry['status']}
                for entry in self.old.get('runs', [])
            ]

    @property
    def same_setting(self) -> bool:
        mine = [self.data['overlay_body'], self.data['cfg_options']]
        return not self.old or mine == [self.old['overlay_body'], self.old['cfg_options']]

    def show_old(self) -> None:
        """Take over what was trained, whatever its setting."""
        for key in ('runs', 'scale', 'overlay', 'cfg_options'):
            self.data[key] = self.old.get(key, self.data[key])

    def scale_in_words(self) -> str:
        """The overlay's sentence, and the options that were put on top of it."""
        scale = self.data['scale'] or (
            'the overlay does not say (scale = ...)' if self.data['overlay'] else "the configs' own"
        )
        options = self.data['cfg_options']
        return scale.rstrip('.') + (f', with {" ".join(options)}' if options else '')

    def entry(self, key: str, seed: int) -> dict[str, Any]:
        """The entry of a run; a new one, if there is none."""
        for entry in self.data['runs']:
            if (entry['key'], entry['seed']) == (key, seed):
                return entry
        self.data['runs'].append({'key': key, 'seed': seed})
        return self.data['runs'][-1]

    def other_seeds(self, key: str, seeds: Sequence[int]) -> list[int]:
        """Of a row, those that this command does not ask for."""
        runs = self.data['runs']
        return [e['seed'] for e in runs if e['key'] == key and e['seed'] not in seeds]

    def forget(self, runs: Sequence[tuple[str, int]]) -> None:
        """Leave out (key, seed); their work dirs stay."""
        self.data['runs'] = [e for e in self.data['runs'] if (e['key'], e['seed']) not in runs]

    def plan(self, item: Item, seed: int, args: argparse.Namespace) -> dict[str, Any]:
        """An entry without figures."""
        entry = self.entry(item.key, seed)
        tables = entry.get('tables', [])
        label = next(iter(item.labels.values()), item.row.label)
        entry |= {
            'label': label,
            'tables': [*tables, *(table for table in item.tables if table not in tables)],
            'network': item.row.network,
            'dataset': item.row.dataset,
            'config': os.path.relpath(item.base, ROOT),
            'options': list(item.options),
            'work_dir': os.path.relpath(run_dir(item.key, seed, args), self.folder),
            'status': WAITING,
            'iterations': None,
            'epochs': None,
            'step_unit': item.length[0].removesuffix('s') if item.cfg else None,
            'top1': None,
            'top5': None,
            'best_top1': None,
            'curve': [],
            'seconds_per_iteration': None,
            'train_seconds': None,
            'peak_memory_mb': None,
        }
        entry.pop('error', None)
        return entry

    def update(self, run: Run, status: str, error: str = '') -> None:
        entry = self.entry(run.method, run.seed)
        seconds = [s for _, s in run.seconds]
        curve = run.curves.get(TOP1.key, [])
        entry |= {
            'options': list(run.options),
            'status': status,
            'iterations': run.iterations or None,
            'epochs': run.epochs,
            'step_unit': 'iteration' if run.epochs is None else 'epoch',
            'curve': [list(point) for point in curve],
            'seconds_per_iteration': statistics.median(seconds) if seconds else None,
        }
        entry.pop('error', None)
        if status == DONE:
            top5 = run.curves[TOP5.key]
            entry |= {
                'top1': curve[-1][1],
                'top5': top5[-1][1] if top5 else None,
                'best_top1': max(value for _, value in curve),
                'train_seconds': run.train_seconds,
                'peak_memory_mb': run.peak_memory_mb,
            }
        elif error:
            entry['error'] = error

    def write(self) -> None:
        """At once or not at all: a report may be reading it."""
        self.data['updated'] = datetime.now().astimezone().isoformat(timespec='seconds')
        new = self.file.with_suffix('.json.new')
        new.write_text(json.dumps(self.data, indent=1) + '\n')
        os.replace(new, self.file)


class SweepProgress(Progress):
    """Keeps sweep.json up to date as well; takes untimed rows for as fast as timed ones like them."""

    def __init__(self, total: int, jobs: int, record: Record, rows: dict[str, Row]) -> None:
        super().__init__(total, jobs)
        self.record = record
        self.rows = rows
        self._seen: set[Run] = set()
        self._written = 0.0

    def finished(
        self,
        run: Run,
        waiting: Sequence[Run],
        running: Sequence[Run],
        recalled: bool = False,
    ) -> None:
        self.record.update(run, DONE)
        # Of those done before, which come all at once, the last is written with what follows.
        if not recalled:
            self.record.write()
        super().finished(run, waiting, running, recalled)

    def failed(
        self, run: Run, error: UserError, waiting: Sequence[Run], running: Sequence[Run]
    ) -> None:
        run.read_log()
        self.record.update(run, FAILED, str(error))
        self.record.write()
        super().failed(run, error, waiting, running)

    def tick(self, waiting: Sequence[Run], running: Sequence[Run]) -> None:
        # At every start, and twice a minute for whoever looks at the curves meanwhile.
        if set(running) - self._seen or time.monotonic() - self._written > 30:
            self._seen |= set(running)
            self._written = time.monotonic()
            for run in running:
                self.record.update(run, RUNNING)
            self.record.write()
        super().tick(waiting, running)

    def paces(self, waiting: Sequence[Run], running: Sequence[Run]) -> dict[str, float]:
        known = super().paces(waiting, running)
        pace = dict(known)
        for run in [*waiting, *running, *self.unplanned]:
            if run.method not in known and (near := self._like(run.method, known)):
                pace[run.method] = statistics.mean(near)
        return pace

    def _like(self, key: str, known: dict[str, float]) -> list[float]:
        """Of the same network and data, and with GradAug or without as well."""

        def kind(key: str) -> tuple[str, str, bool]:
            row = self.rows[key]
            return row.network, row.dataset, 'gradaug' in key

        return [s for other, s in known.items() if kind(other) == kind(key)]


def sweep(
    args: argparse.Namespace,
    keys: Optional[Sequence[str]] = None,
    present: Optional[Callable[..., str]] = None,
) -> None:
    """Train, and tell.

    Args:
        args: the command line's.
        keys: of the rows that are wanted, where ``--only`` cannot say it.
        present: what is printed in the end, in place of :func:`tables`, from the same arguments.

    Raises:
        UserError: the command line is wrong, or a training failed.
    """
    present = present or tables
    items = select(args.names, args.only, keys)
    triples = equal_cost_items(items) if args.equal_cost else []
    overlay = read_overlay(args.overlay)
    record = Record(args, overlay)
    if args.list and not (args.overlay or args.cfg_options):
        record.show_old()
    elif not record.same_setting and not args.overwrite:
        raise UserError(
            f'{short(record.file)} is of another --overlay or other --cfg-options: use another '
            '--work-dir, or --overwrite to train anew what is there'
        )
    if args.list:
        list_rows(items, triples, record, args)
        print(present(items, triples, record))
        return
    with locked(args.work_dir):
        prepare(items, overlay, args)
        if args.slurm or (args.device == 'gpu' and not overlay):
            check_batch(items, args)
        seeds = range(args.seeds)
        # The first seed of every row before the second of any: there is a whole table early on.
        runs = [make_run(item, seed, args) for seed in seeds for item in items]
        old = [run for run in runs if run.holds_another]
        # Other seeds, of earlier commands, go into the same means: they must be of the same training.
        others = [
            make_run(i, seed, args) for i in items for seed in record.other_seeds(i.key, seeds)
        ]
        outdated = [(run.method, run.seed) for run in others if run.holds_another]
        old += [run for run in others if run.holds_another]
        anew = {run.method for run in old}
        for plain, ours, longer in triples:
            ratio = record.data['equal_cost'].get(longer.key)
            if ratio is not None and not anew & {plain.key, ours.key}:
                stretch(plain, longer, ratio['cost_ratio'])
                old += [run for s in seeds if (run := make_run(longer, s, args)).holds_another]
            else:  # it will be measured anew
                record.data['equal_cost'].pop(longer.key, None)
                longer.cfg = None
                there = [(seed, run_dir(longer.key, seed, args)) for seed in seeds]
                old += [Run(longer.key, seed, 0, path) for seed, path in there if path.exists()]
                outdated += [(longer.key, s) for s in record.other_seeds(longer.key, seeds)]
        if old and not args.overwrite:
            names = '\n'.join(f'  {short(run.work_dir)}' for run in old)
            raise UserError(
                'config or options have changed since these were trained:\n'
                f'{names}\nUse another --work-dir, or --overwrite to train them anew'
            )
        record.forget(outdated)
        record.data['setting'] = {
            **surroundings(PACKAGES),
            'jobs': None if args.slurm else args.jobs,
            'device': device_in_words(args),
        }
        record.data |= commit()
        everything = [*items, *(longer for _, _, longer in triples)]
        for seed in seeds:
            for item in everything:
                record.plan(item, seed, args)
        record.write()
        rows = {item.key: item.row for item in everything}
        progress = SweepProgress(len(everything) * args.seeds, args.jobs, record, rows)
        try:
            if args.slurm:
                submit_all(runs, triples, record, args)
            else:
                train(runs, triples, progress, record, args)
        finally:
            for entry in record.data['runs']:
                if entry['status'] == RUNNING and not args.slurm:
                    entry['status'] = WAITING
            record.write()
    print(present(items, triples, record))
    print(f'\nFigures: {short(record.file)}')
    if progress.failures:
        # One cause may have left out several.
        messages = '\n\n'.join(dict.fromkeys(str(e) for e in progress.failures.values()))
        raise UserError(
            f'{len(progress.failures)} of {progress.total} trainings failed; the same command tries '
            f'them again.\n{messages}'
        )


def train(
    runs: list[Run],
    triples: Sequence[tuple[Item, Item, Item]],
    progress: SweepProgress,
    record: Record,
    args: argparse.Namespace,
) -> None:
    """All here; a plain baseline at equal cost as soon as what it costs is known."""
    todo = list(triples)
    progress.as_fast_as = {longer.key: plain.key for plain, _, longer in triples}
    print(f'{progress.total} trainings, {args.jobs} side by side.', flush=True)

    def note_unplanned() -> None:
        """They will take as long as GradAug."""
        coming = [ours.key for _, ours, _ in todo]
        progress.unplanned = [run for run in runs if run.method in coming]

    def more() -> Sequence[Run]:
        for triple in list(todo):
            plain, ours, longer = triple
            pair = [run for run in runs if run.method in (plain.key, ours.key)]
            if any(run in progress.failures for run in pair):
                todo.remove(triple)
                note_unplanned()
                cause = UserError(f'{longer.key}: not trained, since what it costs is not known')
                for seed in range(args.seeds):
                    run = Run(longer.key, seed, 0, run_dir(longer.key, seed, args))
                    progress.failures[run] = cause
                    record.entry(longer.key, seed).update(status=FAILED, error=str(cause))
                record.write()
            elif all(run in progress.done for run in pair):
                todo.remove(triple)
                note_unplanned()
                plan_equal_cost(triple, pair, progress, record)
                return [make_run(longer, seed, args) for seed in range(args.seeds)]
        return ()

    note_unplanned()
    train_all(runs, args.jobs, progress, resume=True, more=more, keep_going=True)


def plan_equal_cost(
    triple: tuple[Item, Item, Item], pair: Sequence[Run], progress: Progress, record: Record
) -> None:
    """Measure, unless that was done before: another ratio would make another training."""
    plain, ours, longer = triple
    known = record.data['equal_cost'].get(longer.key)
    if known is None:
        ratio = cost_ratio(pair, plain=plain.key, ours=ours.key)
        known = {'cost_ratio': ratio, 'gradaug': ours.key, 'seeds': len(pair) // 2}
        record.data['equal_cost'][longer.key] = known
    stretch(plain, longer, known['cost_ratio'])
    record.write()
    unit, length = longer.length
    progress.say(
        f'{ours.key} took {known["cost_ratio"]:.2f} times as long an iteration as {plain.key} (median '
        f'of the logged times), so plain training at equal cost gets {length} {unit}.'
    )


def device_in_words(args: argparse.Namespace) -> str:
    if args.slurm:
        return f'{args.gpus} GPUs by Slurm'
    if args.device == 'gpu':
        import torch

        return f'one {torch.cuda.get_device_name()}, {args.jobs} runs side by side'
    return 'CPU, one thread a run'


def check_batch(items: Sequence[Item], args: argparse.Namespace) -> None:
    """Raise UserError if the learning rate is for another total batch."""
    for item in items:
        base = (item.cfg.get('auto_scale_lr') or {}).get('base_batch_size')
        gpus = args.gpus if args.slurm else 1
        batch = gpus * item.cfg.train_dataloader.get('batch_size', 1)
        if base not in (None, batch) and not args.auto_scale_lr:
            raise UserError(
                f'{short(item.base)}: its learning rate is for {base} images an iteration; '
                f'with {gpus} GPU(s) it is {batch}: add --auto-scale-lr, or take '
                + ('another --gpus' if args.slurm else 'another batch_size by --overlay')
            )


def submit_all(
    runs: Sequence[Run],
    triples: Sequence[tuple[Item, Item, Item]],
    record: Record,
    args: argparse.Namespace,
) -> None:
    """Give every run that is neither done nor submitted to Slurm; read those that are done."""
    environment = {'GPUS': str(args.gpus)}
    if args.srun_args:
        environment['SRUN_ARGS'] = args.srun_args
    waiting = list(runs)
    todo = list(triples)
    done: set[Run] = set()
    while waiting:
        for run in waiting:
            entry = record.entry(run.method, run.seed)
            if run.recall():
                done.add(run)
                record.update(run, DONE)
                continue
            if run.submitted and not args.resubmit:
                run.read_log()
                record.update(run, RUNNING)
                print(f'{run.title}: submitted before, {run.progress}; --resubmit does it again')
                continue
            name = f'{run.method}-seed{run.seed}'
            launcher = ROOT / 'tools' / 'slurm_train.sh'
            # After config and work dir it takes what tools/train.py takes; it sets the launcher.
            command = [str(launcher), args.slurm, name, str(run.config), str(run.work_dir)]
            command += [a for a in run.arguments if a != '--launcher=slurm']
            command += ['--cfg-options', *run.options]
            run.submit(command, environment, resume=True)
            record.update(run, RUNNING)
            entry['submitted'] = shlex.join([f'GPUS={args.gpus}', *command])
            print(f'submitted: {entry["submitted"]}', flush=True)
            record.write()
        waiting = []
        for triple in list(todo):
            plain, ours, longer = triple
            pair = [run for run in runs if run.method in (plain.key, ours.key)]
            if all(run in done for run in pair):
                todo.remove(triple)
                plan_equal_cost(triple, pair, Progress(0, 1), record)
                waiting += [make_run(longer, seed, args) for seed in range(args.seeds)]
    for _, _, longer in todo:
        print(f'{longer.key}: not before the others are done; then type the same command again')


def list_rows(
    items: Sequence[Item],
    triples: Sequence[tuple[Item, Item, Item]],
    record: Record,
    args: argparse.Namespace,
) -> None:
    """What would be trained, and what is done. Writes nothing."""
    rows = [('row', 'config', 'done', 'running', 'failed')]
    for item in [*items, *(longer for _, _, longer in triples)]:
        states = [e['status'] for e in record.data['runs'] if e['key'] == item.key]
        exists = '' if item.base.is_file() else ' (missing)'
        old = [e['status'] for e in record.old.get('runs', []) if e['key'] == item.key]
        rows.append(
            (
                item.key,
                short(item.base) + exists,
                f'{states.count(DONE)} of {max(args.seeds, len(states))}',
                str(old.count(RUNNING)),
                str(states.count(FAILED)),
            )
        )
    print(in_columns(rows))


def tables(
    items: Sequence[Item], triples: Sequence[tuple[Item, Item, Item]], record: Record
) -> str:
    """For each of the paper's tables that was asked for, the paper's figures and ours."""
    longer = {plain.key: longer for plain, _, longer in triples}
    titles = {table.name: table for table in TABLES}
    parts = []
    for name in dict.fromkeys(name for item in items for name in item.tables):
        by_key = {item.key: item for item in items if name in item.tables}
        paper = titles[name].rows if name in titles else [item.row for item in by_key.values()]
        shown = []
        for row in paper:
            if row.key in by_key:
                shown.append((row.key, row.label, row))
                if row.key in longer:
                    shown.append((longer[row.key].key, f'{row.label}, equal cost', None))
        several = len({(row.network, row.dataset) for row in paper}) > 1
        lines = [('row', "paper's top-1", 'top-1 %', 'seeds', 'ms/iteration', 'of baseline')]
        for key, label, row in shown:
            item = by_key.get(key) or by_key[key.removesuffix(EQUAL_COST)]
            if several and item.row.network:
                label = f'{item.row.network}, {item.row.dataset}: {label}'
            paper_top1 = f'{row.top1:.2f}' if row and row.top1 is not None else '-'
            lines.append((label, paper_top1, *_ours(key, item, record)))
        title = titles[name].title if name in titles else 'Configs given by path'
        parts.append(
            f'\n{title}\n{in_columns(lines)}\n'
            f"Scale of ours: {record.scale_in_words()}. The paper's top-1 is at the paper's scale; ours: "
            'final weights, mean +- deviation.'
        )
    return '\n'.join(parts)


def _ours(key: str, item: Item, record: Record) -> tuple[str, str, str, str]:
    """Top-1, number of seeds, milliseconds an iteration, how many times the baseline's."""
    runs = [e for e in record.data['runs'] if e['key'] == key and e['status'] == DONE]
    if not runs:
        return '-', '0', '-', '-'
    top1 = [entry['top1'] for entry in runs]
    figures = {
        'top1_mean': statistics.mean(top1),
        'top1_std': statistics.stdev(top1) if len(top1) > 1 else None,
    }
    milliseconds = 1000 * statistics.median(entry['seconds_per_iteration'] for entry in runs)

    def is_baseline(entry: dict[str, Any]) -> bool:
        if 'baseline' not in entry['key'] or entry['key'].endswith(EQUAL_COST):
            return False
        if entry['status'] != DONE:
            return False
        same = (entry['network'], entry['dataset']) == (item.row.network, item.row.dataset)
        if item.row.network:
            return same
        return item.row.key in [entry['key'], *partner_key(entry['key'])]

    plain = [e['seconds_per_iteration'] for e in record.data['runs'] if is_baseline(e)]
    times = f'{milliseconds / 1000 / statistics.median(plain):.2f}' if plain else '-'
    return (
        mean_and_deviation(figures, 'top1', ' +- '),
        str(len(runs)),
        f'{milliseconds:.0f}',
        times,
    )


def commit() -> dict[str, Any]:
    """The commit of the checkout, and whether files differ from it."""

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ['git', *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        return {'commit': git('rev-parse', 'HEAD'), 'dirty': bool(git('status', '--porcelain'))}
    except (OSError, subprocess.CalledProcessError):
        return {'commit': None, 'dirty': None}


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Two sweeps in one work dir would empty each other's runs."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / '.lock').open('w') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f'another sweep is at work in {short(folder)}: wait for it, or use another --work-dir'
            ) from error
        yield


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Train rows of the paper's tables, or any configs, with several seeds each, and\n"
        'compare. Stopped or interrupted, the same command goes on. Writes sweep.json to the work dir.',
        epilog='examples:\n'
        '  tools/sweep.py table4 figure2 configs/imagenet/baseline_r50.py --list\n'
        '  tools/sweep.py table4 --seeds 3 --overlay small.py --equal-cost\n'
        '  tools/sweep.py table3 --only wrn28_10 --slurm gpu --gpus 4 --auto-scale-lr\n'
        '  tools/sweep.py configs/quickstart/digits_baseline.py configs/quickstart/digits_gradaug.py '
        '--seeds 5',
    )
    parser.add_argument(
        'names',
        nargs='+',
        metavar='NAME_OR_CONFIG',
        help=f'{", ".join(table.name for table in TABLES)}, or a config file',
    )
    parser.add_argument(
        '--only',
        action='append',
        default=[],
        metavar='SUBSTRING',
        help='only rows whose key, which --list shows, has it; may be given several times',
    )
    parser.add_argument('--seeds', type=int, default=1, metavar='N', help='0 to N-1 (default: 1)')
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=ROOT / 'work_dirs' / 'sweep',
        metavar='DIR',
        help='where everything goes (default: work_dirs/sweep in the repository)',
    )
    parser.add_argument(
        '--overlay',
        type=Path,
        metavar='FILE.py',
        help='a config file without _base_ that is put on top of every config, to turn all rows to a '
        "small scale for instance; scale = '...' in it says in a sentence which",
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='overrides for every training, as in tools/train.py; those of model.gradaug, '
        'model.gradaug.unlabelled and model.mean_teacher go to the models that have them alone',
    )
    parser.add_argument(
        '--equal-cost',
        action='store_true',
        help='plain baselines once more, for as long as GradAug takes by the times measured here',
    )
    parser.add_argument(
        '--jobs',
        type=int,
        metavar='N',
        help='trainings side by side, on the CPU one thread each (default: '
        f'{min(4, usable_cpus())}; on a GPU 1)',
    )
    parser.add_argument(
        '--device',
        choices=('cpu', 'gpu'),
        help='of trainings here; gpu: the first that CUDA_VISIBLE_DEVICES leaves (default: gpu if there is one)',
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='as in tools/train.py, where the config says for which batch its learning rate is',
    )
    parser.add_argument(
        '--list', action='store_true', help='say what there is and what is done; train nothing'
    )
    parser.add_argument(
        '--overwrite',
        action='store_true',
        help='where a config, the overlay or options have changed, replace what was trained',
    )
    slurm = parser.add_argument_group('Slurm')
    slurm.add_argument(
        '--slurm',
        metavar='PARTITION',
        help='submit each run by tools/slurm_train.sh instead; the same command later reads what is '
        'done, and submits what has become possible',
    )
    slurm.add_argument('--gpus', type=int, default=8, metavar='N', help='a run (default: 8)')
    slurm.add_argument(
        '--srun-args',
        metavar='ARGS',
        help="further ones of srun, in one string: --srun-args='--time=9:00:00 --qos=low'",
    )
    slurm.add_argument(
        '--resubmit', action='store_true', help='also what was submitted before and is not done'
    )
    argv = list(sys.argv[1:] if argv is None else argv)
    args = parser.parse_args(argv)
    if args.slurm and args.device:
        parser.error('--device is of trainings here, without --slurm')
    if args.device is None or args.device == 'gpu':
        has_gpu = not args.slurm and gpu_is_there()
        if args.device and not has_gpu:
            parser.error('--device gpu: PyTorch sees no GPU here; see make doctor, or --device cpu')
        args.device = 'gpu' if has_gpu else 'cpu'
    if args.jobs is None:
        args.jobs = 1 if args.device == 'gpu' else min(4, usable_cpus())
    for name in ('seeds', 'jobs', 'gpus'):
        if getattr(args, name) < 1:
            parser.error(f'--{name} must be 1 or more, got {getattr(args, name)}')
    for option in args.cfg_options:
        key = option.split('=')[0]
        if '=' not in option:
            parser.error(f'--cfg-options takes KEY=VALUE, got {option!r}')
        if key in OWN_SETTINGS or key.rsplit('.', 1)[-1] in DATASET_SEEDS:
            parser.error(f'--cfg-options: {key} is set by the sweep; use --seeds, --work-dir')
        if key == FOLD:
            parser.error(
                f'--cfg-options: {key} is set by the sweep; use tools/low_data.py --stl10-folds'
            )
    if not args.slurm and (args.srun_args or args.resubmit):
        parser.error('--srun-args and --resubmit are for --slurm PARTITION')
    args.by_fold = False  # whether seed i is also the dataset's predefined fold i
    args.tool = ['tools/sweep.py', *argv]
    args.work_dir = args.work_dir.resolve()
    return args


def gpu_is_there() -> bool:
    import torch

    return torch.cuda.is_available()


def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse_args(argv)
    stopped = 'what is trained is kept, and the same command goes on'
    return run_tool('sweep', lambda: sweep(args), stopped)


if __name__ == '__main__':
    sys.exit(main())
