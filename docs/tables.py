"""Makes tables of docs/ and docs/results/ from the JSON in docs/results/: python docs/tables.py [--check].

A table stands below a line <!-- table: NAME -->, with NAME one of TABLES here. What a sweep came to is put into such
a JSON file by python docs/tables.py --record WORK_DIR FILE.
"""

import argparse
import json
import re
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Optional

from mmgradaug.datasets.corruptions import CORRUPTIONS
from mmgradaug.experiments.results import Result, difference, mean_and_deviation
from mmgradaug.experiments.tables import EQUAL_COST, ROWS, TOP1

RESULTS = Path(__file__).resolve().parent / 'results'
Rows = list[list[str]]
MARKED = re.compile(r'(<!-- table: (.+?) -->\n)((?:\|.*\n)*)')


def load(name: str) -> Any:
    return json.loads((RESULTS / name).read_text())


def mean(values: list[float]) -> str:
    value, deviation = mean_and_deviation(values)
    return f'{value:.1f} ± {deviation:.1f}'


class Sweep:
    """Runs of one setting, from one or more files."""

    def __init__(self, *files: str, network: str) -> None:
        self.network = network
        self.runs: dict[str, list[Result]] = {}
        for file in files:
            for run in load(file)['runs']:
                last = {TOP1: run['top1']}
                result = Result(run['key'], '', run['seed'], Path(file), last=last)
                result.iterations = run['iterations']
                self.runs.setdefault(run['key'], []).append(result)

    def key(self, method: str, rest: str = '') -> str:
        """'cutmix+probs=0.1' with rest '+num_labels=1000': the key of a run."""
        method = f'baseline{EQUAL_COST}' if method == 'equal_cost' else method
        name, plus, options = method.partition('+')
        return f'{name}_{self.network}{rest}{plus}{options}'

    def top1(self, method: str, rest: str = '') -> str:
        runs = self.runs.get(self.key(method, rest))
        return mean([run.last[TOP1] for run in runs]) if runs else '-'

    def to(self, other: str, method: str, rest: str = '') -> str:
        """The difference seed by seed, its standard error in brackets."""
        runs, others = (self.runs.get(self.key(m, rest), []) for m in (method, other))
        found = None if method == other else difference(runs, others, TOP1)
        if found is None:
            return '-' if not runs else ''
        return f'{found.mean:+.1f} ({found.error:.1f})'

    def paper(self, method: str, rest: str = '') -> str:
        row = ROWS.get(self.key(method, rest))
        return '-' if row is None or TOP1 not in row.figures else f'{row.figures[TOP1]:.2f}'


def small_scale() -> tuple[list[str], Rows]:
    sweep = Sweep('small_scale/sweep.json', network='wrn28_10_cifar100')
    longer = sweep.runs[sweep.key('equal_cost')][0].iterations
    methods = {
        'baseline': ('plain', 4),
        'equal_cost': (f'plain, equal cost ({longer} iterations)', None),
        'gradaug_randscale': ('RandScale: scale, full width', 4),
        'gradaug_randwidth': ('RandWidth: width, no scale', 4),
        'gradaug': ('**GradAug**: n = 3, alpha = 0.8', 4),
        'gradaug_rotation': ('GradAug by rotation', 5),
        'gradaug_scale_rotation': ('GradAug by rotation and scale', 5),
        'cutmix': ('CutMix', 3),
        'gradaug_cutmix': ('GradAug + CutMix', 3),
        'cutout': ('Cutout', None),
        'shakedrop': ('ShakeDrop', 3),
    }
    head = ['', 'top-1 here', 'to plain', 'to plain at equal cost']
    head.append('in the **paper** (WideResNet-28-10, CIFAR-100)')
    rows = []
    for method, (label, table) in methods.items():
        plain = method in ('baseline', 'equal_cost')
        equal = '' if plain else sweep.to('equal_cost', method)
        paper = f'{sweep.paper(method)}, Table {table}' if table else '-'
        rows.append([label, sweep.top1(method), sweep.to('baseline', method), equal, paper])
    return head, rows


def shakedrop() -> tuple[list[str], Rows]:
    sweep = Sweep('small_scale/shakedrop.json', network='wrn28_10_cifar100')
    methods = {
        'baseline': 'plain',
        'mixup': 'Mixup',
        'cutmix': 'CutMix',
        'shakedrop': 'ShakeDrop',
        'cutmix_shakedrop': 'CutMix + ShakeDrop',
    }
    rows = [
        [label, sweep.top1(m), sweep.to('baseline', m), sweep.to('cutmix', m), sweep.paper(m)]
        for m, label in methods.items()
    ]
    return ['', 'top-1 here', 'to plain', 'to CutMix', 'in the **paper**'], rows


def finetune_sweep(labels: int) -> tuple[list[str], Rows]:
    sweep = Sweep(f'finetune/sweep_cifar10_{labels}.json', network='efficientnet_lite0')
    # By how GradAug trains: plain training that took as long.
    equal = {
        each: f'baseline+as_{sweep.key(each)}{EQUAL_COST}' for each in ('gradaug', 'gradaug_paper')
    }
    if sweep.key('equal_cost') in sweep.runs:
        equal['gradaug'] = 'equal_cost'
    methods = {
        'baseline': 'plain',
        equal['gradaug']: 'plain, equal cost to economy',
        equal['gradaug_paper']: 'plain, equal cost to n = 3',
        'trivial': 'TrivialAugment',
        'mixup': 'Mixup',
        'cutmix': 'CutMix',
        f'cutmix+as_{sweep.key("gradaug_cutmix")}{EQUAL_COST}': 'CutMix, equal cost to economy',
        'gradaug': 'GradAug, economy',
        'gradaug_cutmix': 'GradAug, economy, with CutMix',
        'gradaug_paper': 'GradAug, n = 3',
    }
    # An iteration with CutMix takes as long as one without.
    equal['gradaug_cutmix'] = equal['gradaug']
    rows = []
    for method, label in methods.items():
        if runs := sweep.runs.get(sweep.key(method)):
            cells = [label, f'{runs[0].iterations:,}', sweep.top1(method), str(len(runs))]
            longer = equal.get(method, method)
            rows.append([*cells, sweep.to('baseline', method), sweep.to(longer, method)])
    head = ['', 'iterations', 'top-1', 'seeds', 'to plain', 'to plain at equal cost']
    return head, rows


def figure2() -> tuple[list[str], Rows]:
    sweep = Sweep('small_scale/sweep.json', network='wrn28_10_cifar100')
    methods = {f'gradaug+num_subnets={n}': f'n = {n}' for n in (1, 2, 4)}
    methods |= {f'gradaug+min_width={alpha}': f'alpha = {alpha}' for alpha in (0.6, 0.9)}
    order = [
        *list(methods.items())[:2],
        ('gradaug', 'n = 3, alpha = 0.8'),
        *list(methods.items())[2:],
    ]
    rows = [[label, sweep.top1(m), sweep.to('baseline', m)] for m, label in order]
    return ['', 'top-1 here', 'to plain'], rows


LOW_DATA = {
    'baseline': 'plain',
    'equal_cost': 'plain, equal cost',
    'cutmix': 'CutMix (p=0.5)',
    'cutmix+probs=0.1': 'CutMix (p=0.1)',
    'shakedrop': 'ShakeDrop',
    'gradaug': '**GradAug**',
    'gradaug_semi': 'GradAug-semi, 25 + 25',
    'mean_teacher': 'Mean Teacher, 25 + 25',
}
NUMBERS = {'250 labels': '', '1,000 labels': '+num_labels=1000'}
SMALL_WRN = 'wrn28_2_cifar10'


def low_data_plain() -> tuple[list[str], Rows]:
    folder = 'low_data/'
    files = ('without_augmentation.json', 'mean_teacher_without_augmentation.json')
    sweep = Sweep(*(folder + file for file in files), network=SMALL_WRN)
    twice = Sweep(f'{folder}semi_50_50.json', network=SMALL_WRN)
    twice.runs[twice.key('baseline')] = sweep.runs[sweep.key('baseline')]
    rows = []
    for method, label in LOW_DATA.items():
        rows.append([label])
        for rest in NUMBERS.values():
            rows[-1] += [sweep.top1(method, rest), sweep.to('baseline', method, rest)]
            rows[-1].append(sweep.paper(method, rest))
        if method == 'gradaug_semi':
            rows.append(['GradAug-semi, 50 + 50'])
            for rest in NUMBERS.values():
                rows[-1] += [twice.top1(method, rest), twice.to('baseline', method, rest)]
                rows[-1].append(twice.paper(method, rest))
    head = [cell for name in NUMBERS for cell in (name, 'to plain', 'in the **paper**')]
    return ['', *head], rows


def compared(files: list[str], numbers: dict[str, str]) -> tuple[list[str], Rows]:
    """Beside plain training and plain training at equal cost."""
    sweep = Sweep(*(f'low_data/{file}' for file in files), network=SMALL_WRN)
    rows = []
    for method, label in LOW_DATA.items():
        if sweep.key(method, [*numbers.values()][0]) not in sweep.runs:
            continue
        if method == 'equal_cost':
            runs = [sweep.runs[sweep.key(method, rest)][0] for rest in numbers.values()]
            label += f' ({" and ".join(f"{run.iterations:,}" for run in runs)} iterations)'
        rows.append([label])
        for rest in numbers.values():
            rows[-1].append(sweep.top1(method, rest))
            rows[-1] += [sweep.to(other, method, rest) for other in ('baseline', 'equal_cost')]
    head = [c for name in numbers for c in (name, 'to plain', 'to plain at equal cost')]
    return ['', *head], rows


def low_data_augmented() -> tuple[list[str], Rows]:
    return compared(
        ['augmented_250.json', 'augmented_1000.json', 'mean_teacher_augmented.json'], NUMBERS
    )


def low_data_longer() -> tuple[list[str], Rows]:
    return compared(['augmented_4000_1000.json'], {'1,000 labels': '+num_labels=1000'})


# GradAug-semi over longer and longer trainings.
SEMI = {
    ('250 labels', 2000): ('augmented_250.json', ''),
    ('250 labels', 4000): ('augmented_4000_250.json', ''),
    ('1,000 labels', 2000): ('augmented_1000.json', '+num_labels=1000'),
    ('1,000 labels', 4000): ('augmented_4000_1000.json', '+num_labels=1000'),
    ('1,000 labels', 6000): ('augmented_6000_1000.json', '+num_labels=1000'),
}


def low_data_semi() -> tuple[list[str], Rows]:
    rows = []
    for (labels, iterations), (file, rest) in SEMI.items():
        sweep = Sweep(f'low_data/{file}', network=SMALL_WRN)
        cells = [sweep.top1(method, rest) for method in ('gradaug', 'gradaug_semi')]
        seeds = str(len(sweep.runs[sweep.key('gradaug_semi', rest)]))
        cells += [sweep.to('gradaug', 'gradaug_semi', rest), seeds]
        rows.append([labels, f'{iterations:,}', *cells])
    return ['', 'iterations', 'GradAug', 'GradAug-semi', 'difference', 'splits'], rows


METHODS = ('plain', 'Mixup', 'CutMix', 'GradAug', 'GradAug + CutMix')


def evaluations(file: str) -> dict[str, list[dict[str, Any]]]:
    entries = load(f'robustness/{file}.json')
    return {name: [e for e in entries if e['model']['name'] == name] for name in METHODS}


def corruptions() -> tuple[list[str], Rows]:
    groups = {'noise': CORRUPTIONS[:3], 'blur': CORRUPTIONS[3:7], 'weather': CORRUPTIONS[7:11]}
    groups |= {'digital': CORRUPTIONS[11:], 'mean of all 15': CORRUPTIONS}

    def error(entry: dict[str, Any], names: tuple[str, ...]) -> float:
        sets = [level['error'] for name in names for level in entry['sets'][name].values()]
        return 100 * statistics.fmean(sets)

    rows = []
    for method, entries in evaluations('corruptions').items():
        cells = [mean([100 * entry['clean']['error'] for entry in entries])]
        cells += [mean([error(entry, names) for entry in entries]) for names in groups.values()]
        rows.append([method, *cells])
    return ['', 'clean', *groups], rows


def fgsm() -> tuple[list[str], Rows]:
    rows, eps = [], []
    for method, entries in evaluations('fgsm').items():
        eps = entries[0]['eps']
        columns = zip(*(entry['top1']['normalised, clamped'] for entry in entries))
        clean = mean([entry['clean'] for entry in entries])
        rows.append([method, clean, *(mean(list(column)) for column in columns)])
    return ['', 'clean', *(f'{value:.2f}' for value in eps)], rows


def width_curve() -> tuple[list[str], Rows]:
    points = [entries[0]['points'] for entries in evaluations('width_curve').values()]
    rows = [
        [f'{at[0]["width"]:g}', *(f'{p["recalibrated"]} ({p["full_statistics"]})' for p in at)]
        for at in zip(*points)
    ]
    return ['width', *METHODS], rows


def step_time() -> tuple[list[str], Rows]:
    rows = []
    for name, file in (
        ('ResNet-50', 'step_time.json'),
        ('WRN-28-10', 'step_time_wrn28_10.json'),
        ('EfficientNet-B0', 'step_time_efficientnet_b0.json'),
        ('Mask R-CNN', 'step_time_mask_rcnn.json'),
    ):
        data = load(file)
        seconds = (statistics.median(data[f'{kind}_seconds']) for kind in ('plain', 'gradaug'))
        peaks = (data[f'{kind}_peak_mib'] for kind in ('plain', 'gradaug'))
        rows.append([
            name,
            ' / '.join(f'{value:.2f}' for value in seconds),
            f'{data["flops_ratio"]:.2f}',
            f'{data["overhead"]:.2f}',
            ' / '.join(f'{value:.0f}' for value in peaks),
            f'{data["peak_ratio"]:.3f}',
        ])  # fmt: skip
    head = ['', 'seconds', 'ratio of FLOPs', 'time over FLOPs', 'peak memory, MiB', 'ratio']
    return head, rows


TABLES: dict[str, Callable[[], tuple[list[str], Rows]]] = {
    'small_scale': small_scale,
    'shakedrop': shakedrop,
    **{f'finetune_sweep {n}': partial(finetune_sweep, n) for n in (100, 250, 1000)},
    'figure2': figure2,
    'low_data_plain': low_data_plain,
    'low_data_augmented': low_data_augmented,
    'low_data_longer': low_data_longer,
    'low_data_semi': low_data_semi,
    'corruptions': corruptions,
    'fgsm': fgsm,
    'width_curve': width_curve,
    'step_time': step_time,
}


def made(text: str) -> str:
    """A page's text with its marked tables made anew."""

    def table(match: re.Match) -> str:
        head, rows = TABLES[match[2]]()
        lines = [head, ['---'] * len(head), *rows]
        body = ''.join(f'| {" | ".join(cells)} |\n' for cells in lines)
        return match[1] + body.replace('| --- ', '|---').replace('---| ---', '---|---')

    return MARKED.sub(table, text)


def record(work_dir: Path) -> str:
    """What a sweep was asked, and what its runs came to, a line each."""
    about = json.loads((work_dir / 'sweep.json').read_text())
    runs = []
    for file in sorted(work_dir.glob('runs/*/seed*/run.json')):
        run = json.loads(file.read_text())
        if run['status'] != 'done':
            raise SystemExit(f'{file.parent} is not done: start the sweep again first')
        about |= {key: run[key] for key in ('device', 'versions')}
        curve = [[e['iteration'], round(e['metrics'][TOP1], 3)] for e in run['evaluations']]
        runs.append(
            dict(
                key=file.parent.parent.name, seed=run['seed'], iterations=run['iterations'],
                top1=round(run['last'][TOP1], 3), curve=curve,
                loss=round(run['training'][-1]['loss'], 4),
                seconds_per_iteration=round(run['seconds_per_iteration'], 4),
            )
        )  # fmt: skip
    head = ''.join(f' {json.dumps(key)}: {json.dumps(value)},\n' for key, value in about.items())
    lines = ',\n'.join(f'  {json.dumps(run)}' for run in runs)
    return f'{{\n{head} "runs": [\n{lines}\n ]\n}}\n'


def main(arguments: Optional[list[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--check', action='store_true', help='write nothing; fail where a table differs'
    )
    parser.add_argument(
        '--record', nargs=2, type=Path, metavar=('WORK_DIR', 'FILE'), help='of a sweep that is done'
    )
    args = parser.parse_args(arguments)
    if args.record:
        args.record[1].write_text(record(args.record[0]))
    for page in sorted([*RESULTS.parent.glob('*.md'), *RESULTS.glob('*.md')]):
        before = page.read_text()
        after = made(before)
        if before != after and args.check:
            sys.exit(f'{page} differs from its data: python docs/tables.py')
        page.write_text(after)


if __name__ == '__main__':
    main()
