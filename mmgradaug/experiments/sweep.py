"""``mmgradaug sweep``: rows of the paper's tables, or any configs, trained with several seeds each."""

import argparse
import io
import shlex
from collections.abc import Sequence
from contextlib import redirect_stdout
from datetime import datetime
from pathlib import Path
from typing import Any, Optional

from mmgradaug.engine.config_check import problems_of
from mmgradaug.files import UserError, read_json, short, write_json
from mmgradaug.grids import Grid, show

from .equal_cost import equal_cost_items, make_as_expensive, stretch
from .items import (
    DATASET_SEEDS,
    Item,
    Overlay,
    ask_for_metrics,
    has_gradaug,
    prepare,
    read_overlay,
    select,
)
from .lock import locked
from .reading import SWEEP, read_work_dirs
from .runs import REQUEST, Run, cost_ratio, remove, train_all, usable_cpus
from .summary import summary, verdicts
from .watch import Watch

FOLD = 'train_dataloader.dataset.fold'
# What a sweep sets itself in each run.
OWN_SETTINGS = ('randomness.seed', 'work_dir', 'train_dataloader.dataset.split_file', FOLD)
# Times a plain iteration: the paper's setting, for the time left before it is measured.
GRADAUG_COST = 2.7

Triple = tuple[Item, Item, Item]  # plain, GradAug, plain at equal cost


class Sweep:
    """Several trainings in one folder, ``work_dir/runs/KEY/seedN`` each, and ``sweep.json`` beside them.

    The file holds what they share: the command, the overlay and its scale, the overrides, and the
    measured cost of GradAug that decides how long plain training at equal cost is.

    Args:
        args: the command line's; see :func:`check_arguments`.

    Raises:
        UserError: a table, config or option is wrong.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.lock: Optional[int] = None  # see locked()
        self.folder: Path = args.work_dir
        self.items = select(args.names, args.only)
        self.triples: list[Triple] = equal_cost_items(self.items) if args.equal_cost else []
        self._keep_names()
        self._say_who_has_none()
        self.overlay: Optional[Overlay] = read_overlay(args.overlay)
        self.file = self.folder / SWEEP
        old = read_json(self.file) if self.file.is_file() else {}
        self.setting = {
            'overlay': self.overlay.body if self.overlay else None,
            'cfg_options': list(args.cfg_options),
        }
        same = not old or all(old.get(key) == value for key, value in self.setting.items())
        # That of the first trainings, by which the cost is measured, whatever those after them have.
        device = f'slurm, {args.gpus} GPUs' if args.slurm else args.device
        timed_with = old.get('device', device) if same else device
        if args.equal_cost and not args.list and timed_with != device:
            raise UserError(
                f'{short(self.file)}: what GradAug costs was measured with {timed_with}, and is another with '
                f'{device}: go on as before, or use another --work-dir'
            )
        if not same and not (args.overwrite or args.list):
            raise UserError(
                f'{short(self.file)} is of another --overlay or other --cfg-options: use another '
                '--work-dir, or --overwrite to train anew what is there'
            )
        self.data: dict[str, Any] = {
            'command': shlex.join(args.tool),
            'created': datetime.now().astimezone().isoformat(timespec='seconds'),
            'scale': self.overlay.scale if self.overlay else None,
            **self.setting,
            'device': timed_with,
            'equal_cost': dict(old.get('equal_cost', {})) if same else {},
        }

    def _keep_names(self) -> None:
        """Let trainings at equal cost have the names that they have, whatever GradAug configs are beside them now."""
        for _, gradaug, longer in self.triples:
            usual = longer.partner
            for longer.partner in (usual, gradaug if usual is None else None):
                folder = self.folder / 'runs' / longer.key
                there = [read_json(file) for file in folder.glob(f'seed*/{REQUEST}')]
                if any(request.get('equal_cost_to') == gradaug.key for request in there):
                    break
            else:
                longer.partner = usual

    def _say_who_has_none(self) -> None:
        """Of a table's rows, whose baseline is made as expensive as its namesake with GradAug alone."""
        paired = [gradaug.key for _, gradaug, _ in self.triples]
        items = self.items if paired else []
        others = [item.key for item in items if item.key not in paired and has_gradaug(item)]
        if others:
            print(f'No plain training is made as expensive as: {", ".join(others)}.')

    @property
    def seeds(self) -> range:
        return range(self.args.seeds)

    def prepare(self) -> None:
        """Read all configs; see that nothing else lies where the runs go.

        Raises:
            UserError: a config cannot be read, or something else was trained there.
        """
        args = self.args
        prepare(self.items, self.overlay, args.cfg_options, self.folder)
        ask_for_metrics(self.items)
        for _, gradaug, _ in self.triples:
            if not gradaug.is_gradaug:
                raise UserError(
                    f'--equal-cost: with these --cfg-options {gradaug.key} has no sub-networks, so it is plain '
                    'training: leave out model.gradaug.num_subnets=0, or --equal-cost'
                )
        if args.iterations:
            for item in self.items:
                stretch(item, item, args.iterations / item.length[1])
        if args.slurm or (args.device == 'cuda' and not self.overlay):
            for item in self.items:
                check_batch(item, args)
        outdated = [folder for item in self.items for folder in self._of_another(item)]
        changed = {folder.parent.name for folder in outdated}
        for plain, gradaug, longer in self.triples:
            known = self.data['equal_cost'].get(longer.key)
            if known is None or changed & {plain.key, gradaug.key}:
                # The cost is measured anew, so what was trained for another length does not count.
                self.data['equal_cost'].pop(longer.key, None)
                outdated += sorted((self.folder / 'runs' / longer.key).glob('seed*'))
            else:
                make_as_expensive(longer, plain, known)
                outdated += self._of_another(longer)
        if outdated and not args.overwrite:
            raise UserError(
                'config or options have changed since these were trained:\n'
                + '\n'.join(f'  {short(folder)}' for folder in outdated)
                + '\nUse another --work-dir, or --overwrite to train them anew'
            )
        self._refuse_problems()
        # Of seeds that this command does not ask for, too: means mix no trainings.
        for folder in outdated:
            remove(folder)

    def _refuse_problems(self) -> None:
        """Say what trainings would refuse, which is too late: another option is another sweep."""
        # Under Slurm the data may be on other machines.
        stages = () if self.args.slurm else ('train', 'val')
        found, notices = [], io.StringIO()
        for item in self.items:
            if all(self.make_run(item, seed).is_done for seed in self.seeds):
                continue
            config = {**item.cfg.to_dict(), 'work_dir': str(self.folder)}
            with redirect_stdout(notices):
                found += [f'{item.key}: {problem}' for problem in problems_of(config, stages)]
        for notice in dict.fromkeys(notices.getvalue().splitlines()):
            print(notice)
        if found:
            raise UserError('\n'.join(found))

    def _of_another(self, item: Item) -> list[Path]:
        """Folders of an item's runs that hold another training, whether this command asks for their seeds or not."""
        folder = self.folder / 'runs' / item.key
        seeds = [int(path.name[4:]) for path in folder.glob('seed*') if path.name[4:].isdigit()]
        runs = [self.make_run(item, seed) for seed in sorted(seeds)]
        return [run.folder for run in runs if run.holds_another]

    def make_run(self, item: Item, seed: int) -> Run:
        args = self.args
        dataset = item.cfg.get('train_dataloader', {}).get('dataset', {})
        options = [*item.options, f'randomness.seed={seed}']
        options += [f'train_dataloader.dataset.{k}={seed}' for k in DATASET_SEEDS if k in dataset]
        if args.folds:
            options.append(f'{FOLD}={seed}')
        if 'split_file' in dataset:
            options.append(f'train_dataloader.dataset.split_file={self._split_file(dataset, seed)}')
        arguments = []
        if args.auto_scale_lr and 'base_batch_size' in (item.cfg.get('auto_scale_lr') or {}):
            arguments.append('--auto-scale-lr')
        if args.slurm:
            arguments.append('--launcher=slurm')
        about = {
            'label': item.label,
            'tables': item.tables,
            'config': str(item.row.config),
            'scale': self.data['scale'],
            'metric': item.metric,
        }
        partner = next((gradaug.key for _, gradaug, longer in self.triples if longer is item), None)
        if partner is not None:
            about['equal_cost_to'] = partner
        folder = self.folder / 'runs' / item.key / f'seed{seed}'
        return Run(
            item.key,
            seed,
            folder,
            item.config,
            options,
            arguments,
            about,
            on_gpu=args.device == 'cuda',
            processes=args.gpus if args.slurm else 1,
            lock=self.lock,
        )

    def _split_file(self, dataset: Any, seed: int) -> Path:
        """Which images have labels; one file for all methods."""
        name = dataset.get('of', 'dataset').rsplit('.', 1)[-1].lower()
        if set(str(self.folder)) & set(' ,'):
            raise UserError(
                f'--work-dir {self.folder}: the path is handed on as an option, in which MMEngine allows neither '
                'white space nor commas: use another folder'
            )
        part = 'fold' if self.args.folds else 'split'
        return self.folder / 'splits' / f'{name}_{dataset.get("num_labels")}_{part}{seed}.json'

    def runs_of(self, items: Sequence[Item]) -> list[Run]:
        """The first seed of every row before the second of any: there is a whole table early on."""
        return [self.make_run(item, seed) for seed in self.seeds for item in items]

    def train(self, keep_going: bool = True) -> Watch:
        """Train everything here; a plain baseline at equal cost as soon as its length is known."""
        weights = {item.key: GRADAUG_COST if item.is_gradaug else 1.0 for item in self.items}
        weights |= {longer.key: GRADAUG_COST for _, _, longer in self.triples}
        watch = Watch(weights)
        runs = self.runs_of(self.items)
        watch.expect(run.key for run in runs)
        watch.expect(longer.key for _, _, longer in self.triples for _ in self.seeds)
        todo = list(self.triples)
        print(f'{watch.count} trainings, {self.args.jobs} side by side.', flush=True)

        def more() -> list[Run]:
            for triple in list(todo):
                plain, gradaug, longer = triple
                pair = [run for run in runs if run.key in (plain.key, gradaug.key)]
                if any(run in watch.failures for run in pair):
                    todo.remove(triple)
                    for seed in self.seeds:
                        run = Run(longer.key, seed, self.folder, longer.base)
                        watch.failures[run] = f'{longer.key}: not trained, as its cost is not known'
                elif all(run.is_done if gradaug.phase else run.is_timed for run in pair):
                    todo.remove(triple)
                    watch.say(self.plan_equal_cost(triple, pair))
                    return self.runs_of([longer])
            return []

        train_all(runs, self.args.jobs, watch, more, keep_going)
        return watch

    def plan_equal_cost(self, triple: Triple, pair: Sequence[Run]) -> str:
        """Measure the cost, unless that was done before: another ratio would make another training."""
        plain, gradaug, longer = triple
        ratio = self.data['equal_cost'].get(longer.key)
        if ratio is None:
            ratio = cost_ratio(*([r for r in pair if r.key == i.key] for i in (plain, gradaug)))
            self.data['equal_cost'][longer.key] = ratio
        make_as_expensive(longer, plain, ratio)
        self.write()
        unit, length = longer.length
        said = (
            f'By what iterations took so far (median), {gradaug.key} takes {ratio:.2f} times as long as '
            f'{plain.key}, so plain training at equal cost gets {length} {unit}'
        )
        times = length / plain.length[1]
        if times > 1.05 * ratio:
            said += (
                f', {times:.2f} times as many: whole epochs are rounded up. For a closer comparison train by '
                'iterations'
            )
        return f'{said}.'

    def write(self) -> None:
        write_json(self.file, self.data)

    def everything(self) -> list[Item]:
        return [*self.items, *(longer for _, _, longer in self.triples)]


def check_batch(item: Item, args: argparse.Namespace) -> None:
    """Raise UserError if the learning rate is for another total batch."""
    from mmgradaug.launch import accumulation

    base = (item.cfg.get('auto_scale_lr') or {}).get('base_batch_size')
    gpus = args.gpus if args.slurm else 1
    batch = gpus * item.cfg.train_dataloader.get('batch_size', 1) * accumulation(item.cfg)
    if base not in (None, batch) and not args.auto_scale_lr:
        raise UserError(
            f'{short(item.base)}: its learning rate is for {base} images an optimizer step; '
            f'with {gpus} GPU(s) it is {batch}: add --auto-scale-lr, or take '
            + ('another --gpus' if args.slurm else 'another batch_size by --overlay')
        )


def list_rows(sweep: Sweep) -> None:
    """What would be trained, and what is done. Writes nothing."""
    rows = []
    for item in sweep.everything():
        folders = sorted((sweep.folder / 'runs' / item.key).glob('seed*'))
        records = [read_json(f / 'run.json') for f in folders if (f / 'run.json').is_file()]
        done = sum(record.get('status') == 'done' for record in records)
        paper = ', '.join(f'{v:g}' for v in item.row.figures.values())
        exists = '' if item.base.is_file() else ' (missing)'
        config = short(item.base) + exists
        total = max(sweep.args.seeds, len(folders))
        rows.append([item.key, item.label, config, paper or '-', f'{done} of {total}'])
    show(Grid('', ['row', 'method', 'config', 'paper', 'done'], rows))


def run(args: argparse.Namespace) -> None:
    """The command. Raises UserError if it is wrong, or a training failed."""
    check_arguments(args)
    if args.list:
        list_rows(Sweep(args))
        return
    select(args.names, args.only)  # before it waits, and makes a folder
    with locked(args.work_dir) as lock:
        sweep = Sweep(args)
        sweep.lock = lock
        sweep.prepare()
        sweep.write()
        failures = {}
        if args.slurm:
            from .slurm import submit

            submit(sweep)
        else:
            failures = sweep.train().failures
    show_results(args.work_dir)
    if failures:
        # One cause may have left out several.
        messages = '\n\n'.join(dict.fromkeys(failures.values()))
        raise UserError(
            f'{len(failures)} trainings failed; the same command tries them again.\n{messages}'
        )


def show_results(work_dir: Path) -> None:
    """The tables of what is in a work dir so far."""
    if not list(work_dir.glob('runs/*/*/run.json')):
        return
    for group in read_work_dirs([work_dir]).groups:
        print()
        show(summary(group))
        for sentence in verdicts(group):
            print(sentence)
    print(f'\nA page with curves: mmgradaug report {short(work_dir)}')


def check_arguments(args: argparse.Namespace) -> None:
    """Fill in what depends on the machine.

    Raises:
        UserError: arguments that do not go together.
    """
    if args.slurm and args.device:
        raise UserError('--device is of trainings here, without --slurm')
    if not args.slurm and (args.srun_args or args.resubmit):
        raise UserError('--srun-args and --resubmit are for --slurm PARTITION')
    if args.device in (None, 'cuda'):
        has_gpu = not args.slurm and gpu_is_there()
        if args.device and not has_gpu:
            raise UserError(
                '--device cuda: PyTorch sees no GPU here; see mmgradaug doctor, or --device cpu'
            )
        args.device = 'cuda' if has_gpu else 'cpu'
    if args.jobs is None:
        args.jobs = 1 if args.device == 'cuda' else min(4, usable_cpus())
    for option in args.cfg_options:
        key = option.split('=')[0]
        if '=' not in option:
            raise UserError(f'--cfg-options takes KEY=VALUE, got {option!r}')
        if key in OWN_SETTINGS or key.rsplit('.', 1)[-1] in DATASET_SEEDS:
            raise UserError(f'--cfg-options: {key} is set here; use --seeds, --folds, --work-dir')
    args.work_dir = args.work_dir.resolve()


def gpu_is_there() -> bool:
    import torch

    return torch.cuda.is_available()
