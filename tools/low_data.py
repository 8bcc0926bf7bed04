#!/usr/bin/env python
"""Train with few labels on several splits, and print Table 10 in the paper's form."""

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

import sweep
from paper_tables import TABLES, Row, Table
from training_runs import ROOT, in_columns, run_tool, short

# Tables that are about few labels.
LOW_DATA_TABLES = {table.name: table for table in TABLES if table.name in ('table10',)}
COLUMNS = {
    '250': 'CIFAR-10, 250',
    '1000': 'CIFAR-10, 1,000',
    '4000': 'CIFAR-10, 4,000',
    'stl10': 'STL-10, 1,000',
}
METHODS = {
    'baseline': 'Baseline',
    'cutmix': 'CutMix (p=0.5)',
    'cutmix-0.1': 'CutMix (p=0.1)',
    'shakedrop': 'ShakeDrop',
    'gradaug': 'GradAug',
    'gradaug-semi': 'GradAug-semi',
    'mean-teacher': 'Mean Teacher',
}


def column_of(row: Row) -> str:
    """'250', '1000', '4000' or 'stl10'."""
    return next(name for name, start in COLUMNS.items() if row.dataset.startswith(f'{start} '))


def method_of(row: Row) -> str:
    return next(name for name, label in METHODS.items() if row.label == label)


def chosen_rows(table: Table, labels: Sequence[str], methods: Sequence[str]) -> list[Row]:
    return [row for row in table.rows if column_of(row) in labels and method_of(row) in methods]


def paper_form(rows: Sequence[Row], record: sweep.Record, equal_cost: bool) -> str:
    """Methods in lines, numbers of labels in columns: mean and deviation over the splits."""
    columns = [name for name in COLUMNS if any(column_of(row) == name for row in rows)]
    by_place = {(row.label, column_of(row)): row for row in rows}
    lines: list[Sequence[str]] = [('', *(COLUMNS[name] + ' labels' for name in columns))]
    differences: list[Sequence[str]] = []
    for label in dict.fromkeys(row.label for row in rows):
        keys = {c: by_place[label, c].key for c in columns if (label, c) in by_place}
        lines.append((label, *(_cell(keys.get(c), record) for c in columns)))
        lines.append(("  the paper's", *(_paper(by_place.get((label, c))) for c in columns)))
        versions = [(label, keys)]
        if equal_cost and label == METHODS['baseline']:
            longer = {c: key + sweep.EQUAL_COST for c, key in keys.items()}
            lines.append((f'{label}, equal cost', *(_cell(longer[c], record) for c in columns)))
            versions.append((f'{label}, equal cost', longer))
        for name, its_keys in versions:
            cells = []
            for c in columns:
                baseline = by_place.get((METHODS['baseline'], c))
                other = its_keys.get(c)
                same = baseline is None or other is None or other == baseline.key
                cells.append('' if same else _difference(other, baseline.key, record))
            if any(cell not in ('', '-') for cell in cells):
                differences.append((name, *cells))
    parts = [in_columns(lines)]
    if differences:
        head = ('above the baseline', *lines[0][1:])
        parts.append(in_columns([head, *differences]))
        parts.append(
            'Differences on the same splits, with the standard error of their mean in brackets.'
        )
    return '\n\n'.join(parts)


def _top1(key: Optional[str], record: sweep.Record) -> dict[int, float]:
    """By split."""
    return {
        entry['seed']: entry['top1']
        for entry in record.data['runs']
        if entry['key'] == key and entry.get('status') == sweep.DONE
    }


def _cell(key: Optional[str], record: sweep.Record) -> str:
    values = list(_top1(key, record).values())
    if not values:
        return '-'
    if len(values) == 1:
        return f'{values[0]:.2f} (one split)'
    return f'{statistics.mean(values):.2f}±{statistics.stdev(values):.2f} ({len(values)})'


def _paper(row: Optional[Row]) -> str:
    return '-' if row is None or row.top1 is None else f'{row.top1:.2f}±{row.top1_std:.2f}'


def _difference(key: str, baseline: str, record: sweep.Record) -> str:
    ours, plain = _top1(key, record), _top1(baseline, record)
    values = [ours[split] - plain[split] for split in sorted(set(ours) & set(plain))]
    if not values:
        return '-'
    if len(values) == 1:
        return f'{values[0]:+.2f} (one split)'
    error = statistics.stdev(values) / len(values) ** 0.5
    return f'{statistics.mean(values):+.2f} ({error:.2f})'


def low_data(args: argparse.Namespace, sweep_args: argparse.Namespace) -> None:
    """Raises UserError as sweep() does."""
    table = LOW_DATA_TABLES[args.table]
    rows = chosen_rows(table, args.labels, args.methods)

    def present(items: Any, triples: Any, record: sweep.Record) -> str:
        return (
            f'\n{table.title}: top-1 in % of the final weights, mean±deviation over the splits (their '
            f'number)\n{paper_form(rows, record, bool(triples))}\n'
            f"Scale of ours: {record.scale_in_words()}. The paper's: 5 splits, WideResNet-28-2.\n"
            f'Splits: {short(sweep_args.work_dir / "splits")}. A page with curves: '
            f'tools/report.py {short(sweep_args.work_dir)}'
        )

    sweep.sweep(sweep_args, keys=[row.key for row in rows], present=present)


def parse_args(
    argv: Optional[Sequence[str]] = None,
) -> tuple[argparse.Namespace, argparse.Namespace]:
    """This tool's arguments, and those of tools/sweep.py."""
    parser = argparse.ArgumentParser(
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description='Train methods with few labels on several random splits, and print mean and deviation in\n'
        "the form of the paper's Table 10. Every method gets the same splits, which are written to\n"
        'WORK_DIR/splits; split i also has the random seed i. Stopped, the same command goes on.',
        epilog='further options are those of tools/sweep.py (see its --help): --overlay FILE.py, --cfg-options,\n'
        '--equal-cost, --device cpu|gpu, --jobs N, --list, --overwrite, --slurm PARTITION, ...\n\n'
        'examples:\n'
        '  tools/low_data.py table10 --list\n'
        '  tools/low_data.py table10 --labels 250 1000 --methods baseline gradaug gradaug-semi --splits 5\n'
        '  tools/low_data.py table10 --labels 250 --splits 3 --equal-cost '
        '--overlay configs/_base_/small_scale_low_data.py',
    )
    parser.add_argument('table', choices=LOW_DATA_TABLES, metavar='TABLE', help='table10')
    parser.add_argument(
        '--labels',
        nargs='+',
        choices=COLUMNS,
        default=list(COLUMNS),
        metavar='N',
        help='columns: 250, 1000, 4000 labels of CIFAR-10; stl10, 1,000 of STL-10 (default: all)',
    )
    parser.add_argument(
        '--methods',
        nargs='+',
        choices=METHODS,
        default=list(METHODS),
        metavar='METHOD',
        help=f'lines: {", ".join(METHODS)} (default: all)',
    )
    parser.add_argument(
        '--splits', type=int, default=5, metavar='N', help="0 to N-1 (default: 5, the paper's)"
    )
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=ROOT / 'work_dirs' / 'low_data',
        metavar='DIR',
        help='where everything goes (default: work_dirs/low_data in the repository)',
    )
    parser.add_argument(
        '--stl10-folds',
        action='store_true',
        help="STL-10's predefined folds 0 to N-1 in place of random splits; with --labels stl10",
    )
    args, rest = parser.parse_known_args(argv)
    if args.splits < 1:
        parser.error(f'--splits must be 1 or more, got {args.splits}')
    if args.stl10_folds and (args.labels != ['stl10'] or args.splits > 10):
        parser.error('--stl10-folds takes --labels stl10, and --splits of 10 or fewer')
    for option in rest:
        if option.split('=')[0] in ('--seeds', '--only'):
            parser.error(f'{option}: write --splits for seeds, --labels and --methods for rows')
    own = [args.table, '--seeds', str(args.splits), '--work-dir', str(args.work_dir)]
    sweep_args = sweep.parse_args([*own, *rest])
    sweep_args.by_fold = args.stl10_folds
    sweep_args.tool = ['tools/low_data.py', *(sys.argv[1:] if argv is None else argv)]
    return args, sweep_args


def main(argv: Optional[Sequence[str]] = None) -> int:
    args, sweep_args = parse_args(argv)
    stopped = 'what is trained is kept, and the same command goes on'
    return run_tool('low data', lambda: low_data(args, sweep_args), stopped)


if __name__ == '__main__':
    sys.exit(main())
