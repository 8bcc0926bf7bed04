#!/usr/bin/env python
"""GradAug against plain training on bundled digits, in a few minutes on a CPU."""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Optional

from training_runs import (
    EQUAL_COST,
    MEMORY_NOTE,
    NAMES,
    PLAIN,
    ROOT,
    WITH_GRADAUG,
    Metric,
    Panel,
    Progress,
    Run,
    add_run_arguments,
    check_installed,
    check_run_arguments,
    compare,
    compare_times,
    draw_curves,
    is_gradaug_option,
    read_config,
    run_tool,
    setting,
    short,
    summarise,
    table,
    train_at_equal_cost,
)

BASELINE = ROOT / 'configs' / 'quickstart' / 'digits_baseline.py'
GRADAUG = ROOT / 'configs' / 'quickstart' / 'digits_gradaug.py'
CONFIGS = {PLAIN: BASELINE, WITH_GRADAUG: GRADAUG, EQUAL_COST: BASELINE}

TOP1 = Metric('top1', 'accuracy/top1', 'top-1', 'top-1 %', unit=' %')
EVALUATIONS = 10  # of each run, equally far apart
PACKAGES = ('torch', 'mmengine', 'mmpretrain', 'mmgradaug', 'scikit-learn')
# What this tool sets itself in each run.
OWN_SETTINGS = (
    'train_cfg',
    'param_scheduler',
    'randomness',
    'train_dataloader.dataset.label_seed',
    'work_dir',
)


def make_run(method: str, seed: int, iterations: int, args: argparse.Namespace) -> Run:
    """One training, with its own labelled images."""
    options = [
        f'randomness.seed={seed}',
        f'train_dataloader.dataset.label_seed={seed}',
        f'train_cfg.max_iters={iterations}',
        f'train_cfg.val_interval={max(1, iterations // EVALUATIONS)}',
        f'param_scheduler.end={iterations}',
        *(o for o in args.cfg_options if method == WITH_GRADAUG or not is_gradaug_option(o)),
    ]
    return Run(
        method,
        seed,
        iterations,
        args.work_dir / f'{method}-seed{seed}',
        config=CONFIGS[method],
        options=options,
        metrics=(TOP1,),
        name=NAMES[method],
    )


def draw(results: dict[str, Any], file: Path) -> None:
    """Test accuracy and training loss over what training cost."""
    seeds = len(results['setting']['seeds'])
    panels = [
        Panel(
            'top1_curve',
            f'Test accuracy: mean of {seeds} seeds, band: one deviation',
            'top-1 accuracy on the test images (%)',
            metric=TOP1,
            band=True,
            # The first iterations' rise from chance level would flatten what the end tells apart.
            room=25,
        ),
        Panel(
            'loss_curve',
            'Training loss of the full network: mean',
            'cross-entropy (log scale)',
            log=True,
        ),
    ]
    title = "A small ResNet on scikit-learn's digits. Small scale, none of the paper's figures."
    draw_curves(results, panels, title, file)


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Train a small network on the digits that come with scikit-learn, on the CPU: '
        'plainly, with GradAug, and plainly for as long as GradAug took. Writes results.json and '
        'curves.png to the work dir. Each seed has its own labelled images, weights and draws.',
        epilog='Everything is trained anew each time, and what an earlier quick start left in the '
        'work dir is replaced. Examples: python tools/quickstart.py --seeds 3; '
        'python tools/quickstart.py --cfg-options model.gradaug.min_width=0.9 --work-dir '
        'work_dirs/wider',
    )
    parser.add_argument(
        '--seeds', type=int, metavar='N', help='seeds 0 to N-1 for each method (default: 5)'
    )
    add_run_arguments(parser)
    parser.add_argument(
        '--quick',
        action='store_true',
        help='2 seeds, 20 iterations: to see that it works; the accuracies say nothing',
    )
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=ROOT / 'work_dirs' / 'quickstart',
        metavar='DIR',
        help='where everything goes (default: work_dirs/quickstart in the repository)',
    )
    args = parser.parse_args(argv)
    if args.seeds is None:
        args.seeds = 2 if args.quick else 5
    if args.iterations is None and args.quick:
        args.iterations = 20
    check_run_arguments(parser, args, OWN_SETTINGS)
    args.work_dir = args.work_dir.resolve()
    return args


def quickstart(args: argparse.Namespace) -> None:
    """Train, and tell.

    Raises:
        UserError: something is missing, or a training failed.
    """
    check_requirements()
    begin = time.monotonic()
    iterations = args.iterations or read_config(GRADAUG).train_cfg.max_iters
    args.work_dir.mkdir(parents=True, exist_ok=True)
    results_file, picture = args.work_dir / 'results.json', args.work_dir / 'curves.png'
    for old in (results_file, picture):  # if this fails midway, nothing old passes for new
        old.unlink(missing_ok=True)

    def plan(method: str, length: int) -> list[Run]:
        return [make_run(method, seed, length, args) for seed in range(args.seeds)]

    print(
        f"{3 * args.seeds} trainings on scikit-learn's digits, {args.jobs} side by side: plain, "
        f'GradAug, plain at equal cost, {args.seeds} seed{"s" * (args.seeds > 1)} each.',
        flush=True,
    )
    progress = Progress(3 * args.seeds, args.jobs)
    runs, ratio = train_at_equal_cost(plan, iterations, args.jobs, progress)

    methods = summarise(runs, ratio)
    results = {
        'created': datetime.now().astimezone().isoformat(timespec='seconds'),
        'setting': setting(args, iterations, PACKAGES),
        'cost_ratio': ratio,
        'cost_ratio_from': 'median of the logged times of an iteration, GradAug / plain',
        'peak_memory_is': MEMORY_NOTE,
        'wall_seconds': time.monotonic() - begin,
        'methods': methods,
        'comparison': {**compare(methods, TOP1.key), **compare_times(methods)},
    }
    draw(results, picture)
    results_file.write_text(json.dumps(results, indent=1) + '\n')
    print(
        f'\n{table(methods, [TOP1])}\n'
        f'top-1: mean and deviation over {args.seeds} seeds, final weights; '
        f'minutes: of one training, without start-up;\n{MEMORY_NOTE}\n'
        f'\n{results["comparison"]["sentence"]}\n{results["comparison"]["time_sentence"]}\n'
        'This is a small-scale demonstration: it says nothing about ImageNet.\n'
        f'\nFigures: {short(results_file)}   picture: {short(picture)}   '
        f'({results["wall_seconds"] / 60:.1f} minutes in all)\n'
        'Next, your own setting: '
        f'{short(Path(sys.executable))} tools/train.py configs/quickstart/digits_gradaug.py '
        "--cfg-options model.gradaug.num_subnets=2; the paper's: configs/gradaug_r50_imagenet.py"
    )


def check_requirements() -> None:
    """Raise UserError, with what to type, if a package is missing."""
    check_installed(
        'the quick start',
        {'sklearn': 'scikit-learn', 'matplotlib': 'matplotlib'},
        ('mmengine', 'mmpretrain', 'mmgradaug'),
    )


def main() -> int:
    args = parse_args()
    return run_tool('quickstart', lambda: quickstart(args))


if __name__ == '__main__':
    sys.exit(main())
