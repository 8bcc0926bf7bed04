"""The command ``mmgradaug``: arguments of all commands; what they do is imported when one is called."""

import argparse
import importlib
import runpy
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Optional

from .evaluation import parsers
from .evaluation.parsers import positive
from .files import UserError
from .resources import TOOLS

WORK_DIRS = Path('work_dirs')
# Makes the parser of a command of its name, what it does, what it runs, and an example.
Add = Callable[[str, str, str, str], argparse.ArgumentParser]
GOES_ON = 'What is done is kept, and the same command goes on.'
# Told on Ctrl-C; of other commands nothing is left.
STOPPED = {
    'sweep': GOES_ON,
    'robustness': GOES_ON,
    'quickstart': 'With --resume the same command goes on.',
    'cam': 'Pictures that are done are kept.',
    'detections': 'Pictures that are done are kept.',
}


def main(argv: Optional[Sequence[str]] = None) -> None:
    """Run a command. Exits with 1 and a message where the user has to change something."""
    argv = list(sys.argv[1:] if argv is None else argv)
    # MMDetection imports it by way of imagecorruptions; nobody here can mend that.
    warnings.filterwarnings('ignore', 'pkg_resources is deprecated as an API', UserWarning)
    if argv[:1] in (['train'], ['test']):  # they have OpenMMLab's arguments
        run_script(argv[0], argv[1:])
        return
    if argv[:1] == ['doctor']:  # it works by its path too, where nothing else does
        from .doctor import main as doctor

        sys.exit(doctor(argv[1:]))
    args = build_parser().parse_args(argv)
    args.tool = ['mmgradaug', *argv]
    module, _, function = args.runs.partition(':')
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        getattr(importlib.import_module(module), function)(args)
    except KeyboardInterrupt:
        print(f'\nStopped. {STOPPED.get(args.command, "Nothing was written.")}', file=sys.stderr)
        sys.exit(130)
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def run_script(name: str, arguments: Sequence[str]) -> None:
    """A script of tools/, which an installed package has too; its help and errors name this command."""
    script = TOOLS / f'{name}.py'
    if not script.is_file():
        raise UserError(f'{script} is missing: install mmgradaug again')
    main_function = runpy.run_path(str(script))['main']
    before, sys.argv = sys.argv, [f'mmgradaug {name}', *arguments]
    try:
        main_function()
    finally:
        sys.argv = before


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='mmgradaug',
        description='GradAug for OpenMMLab: training, experiments, and looking at what was trained.',
        epilog='mmgradaug COMMAND --help says more, with an example.',
    )
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')

    def add(name: str, summary: str, runs: str, example: str) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + '.',
            epilog=f'example: mmgradaug {name} {example}',
        )
        command.set_defaults(runs=f'mmgradaug.{runs}')
        return command

    commands.add_parser('train', help='train from a config', add_help=False)
    commands.add_parser('test', help="test a checkpoint with the config's test set", add_help=False)
    for add_command in (add_sweep, add_report, add_quickstart, add_cost, add_shapes):
        add_command(add)
    parsers.add_evaluations(add)
    what = 'say what is wrong with this environment, and what to type'
    commands.add_parser('doctor', help=what, add_help=False)
    return parser


def add_sweep(add: Add) -> None:
    sweep = add(
        'sweep',
        "train rows of the paper's tables, or any configs, with several seeds each, and compare; stopped, "
        'the same command goes on',
        'experiments.sweep:run',
        'table4 --seeds 3 --equal-cost; my_baseline.py my_gradaug.py --seeds 5; table10 --only "250 labels"',
    )
    sweep.add_argument(
        'names',
        nargs='+',
        metavar='TABLE_OR_CONFIG',
        help='table1 to table7, table10, figure2, tricks, or a config file',
    )
    sweep.add_argument(
        '--only',
        action='append',
        default=[],
        metavar='PART',
        help='only rows that have this in their key, method, network or data set, which --list shows; may '
        'be given several times',
    )
    sweep.add_argument(
        '--seeds', type=positive, default=1, metavar='N', help='0 to N-1 (default: 1)'
    )
    sweep.add_argument(
        '--work-dir',
        type=Path,
        default=WORK_DIRS / 'sweep',
        metavar='DIR',
        help='where everything goes (default: work_dirs/sweep)',
    )
    sweep.add_argument(
        '--overlay',
        type=Path,
        metavar='FILE.py',
        help='a config file without _base_ that is put on top of every config, to turn all rows to a '
        "small scale for instance; scale = '...' in it says in a sentence which",
    )
    sweep.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='overrides for every training; those of model.gradaug, model.gradaug.unlabelled and '
        'model.mean_teacher go to the models that have them alone',
    )
    sweep.add_argument(
        '--equal-cost',
        action='store_true',
        help='the plain baseline once more for each GradAug training, for as long as that takes by the times '
        'measured here',
    )
    sweep.add_argument(
        '--jobs',
        type=positive,
        metavar='N',
        help='trainings side by side, on the CPU one thread each (default: the cores, at most 4; on a GPU 1)',
    )
    sweep.add_argument(
        '--device',
        choices=('cpu', 'cuda'),
        help='of trainings here (default: cuda if there is a GPU; the first that CUDA_VISIBLE_DEVICES leaves)',
    )
    sweep.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='where the config says for which batch its learning rate is',
    )
    sweep.add_argument(
        '--folds',
        action='store_true',
        help="seed i is also the data set's predefined fold i (STL-10 has 10)",
    )
    sweep.add_argument(
        '--list', action='store_true', help='say what there is and what is done; train nothing'
    )
    sweep.add_argument(
        '--overwrite',
        action='store_true',
        help='where a config, the overlay or options have changed, replace what was trained',
    )
    slurm = sweep.add_argument_group('Slurm')
    slurm.add_argument(
        '--slurm',
        metavar='PARTITION',
        help='submit each run as a job instead; the same command later says how the jobs stand, and '
        'submits again those that died',
    )
    slurm.add_argument('--gpus', type=positive, default=8, metavar='N', help='a run (default: 8)')
    slurm.add_argument(
        '--srun-args',
        metavar='ARGS',
        help="further ones of Slurm, in one string: --srun-args='--time=540 --qos=low' (time in minutes)",
    )
    slurm.add_argument('--resubmit', action='store_true', help='also what is with Slurm already')
    sweep.set_defaults(iterations=None)


def add_report(add: Add) -> None:
    report = add(
        'report',
        "put what runs left on a page: their own comparison, then the paper's tables beside them",
        'experiments.report:run',
        'work_dirs --out work_dirs/report --title "CIFAR-100, three seeds"',
    )
    report.add_argument(
        'work_dirs',
        nargs='+',
        type=Path,
        metavar='WORK_DIR',
        help='of trainings, sweeps or evaluations, or a folder that has such folders below',
    )
    report.add_argument(
        '--out',
        type=Path,
        metavar='DIR',
        help='where index.html, report.md and its pictures go (default: report in the first WORK_DIR)',
    )
    report.add_argument(
        '--title', metavar='TEXT', help='of the page (default: which runs it shows)'
    )


def add_quickstart(add: Add) -> None:
    quickstart = add(
        'quickstart',
        'train small networks with and without GradAug on bundled digits or drawn shapes, on the CPU',
        'experiments.quickstart:run',
        'digits --seeds 3',
    )
    quickstart.add_argument(
        'data', nargs='?', choices=('digits', 'shapes'), default='digits', help='default: digits'
    )
    quickstart.add_argument(
        '--seeds', type=positive, metavar='N', help='0 to N-1 (default: 5 for digits, 1 for shapes)'
    )
    quickstart.add_argument(
        '--iterations',
        type=positive,
        metavar='N',
        help="of plain training and of GradAug (default: the config's); plain training at equal cost gets "
        'more, by measured time',
    )
    quickstart.add_argument(
        '--quick',
        action='store_true',
        help='20 iterations, 2 seeds at most: to see that it works; the figures say nothing',
    )
    quickstart.add_argument('--jobs', type=positive, metavar='N', help='trainings side by side')
    quickstart.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE')
    quickstart.add_argument(
        '--work-dir', type=Path, metavar='DIR', help='default: work_dirs/quickstart_DATA'
    )
    quickstart.add_argument(
        '--shapes',
        type=Path,
        default=Path('data/shapes'),
        metavar='DIR',
        help='the drawn images; made there if the folder is new or empty (default: data/shapes)',
    )
    quickstart.add_argument(
        '--pictures',
        type=int,
        default=6,
        choices=range(0, 55),
        metavar='N',
        help='test images of shapes to draw detections on (default: 6)',
    )
    quickstart.add_argument(
        '--resume', action='store_true', help='keep trainings of the same settings that are done'
    )


def add_cost(add: Add) -> None:
    cost = add(
        'cost',
        'time some iterations of configs on this machine and extrapolate to their whole training (Table 2); '
        'of a GradAug config plain training, the presets economy and paper, and its own setting',
        'experiments.cost:run',
        'configs/imagenet/baseline_r50.py configs/gradaug_r50_imagenet.py --iterations 20',
    )
    cost.add_argument(
        'names', nargs='+', metavar='TABLE_OR_CONFIG', help='table2 for instance, or config files'
    )
    cost.add_argument(
        '--iterations', type=positive, default=20, metavar='N', help='timed (default: 20)'
    )
    cost.add_argument(
        '--random-images',
        action='store_true',
        help='noise in place of ImageNet or CIFAR, which then need not be here',
    )
    cost.add_argument('--only', action='append', default=[], metavar='PART', help='as in sweep')
    cost.add_argument('--batch-size', type=positive, metavar='N', help="default: the config's")
    cost.add_argument(
        '--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='overrides of the configs'
    )
    cost.add_argument('--device', choices=('cpu', 'cuda'), help='default: cuda if there is a GPU')
    cost.add_argument('--out', type=Path, default=WORK_DIRS / 'cost', metavar='DIR')


def add_shapes(add: Add) -> None:
    shapes = add(
        'shapes',
        "draw a small data set of circles, squares and triangles in COCO's format and layout",
        'datasets.drawn_shapes:run',
        'data/shapes --train 500 --val 100',
    )
    shapes.add_argument('out', type=Path, metavar='OUT', help='a new or empty folder')
    for name, default, what in (('train', 300, 'training'), ('val', 60, 'validation')):
        shapes.add_argument(
            f'--{name}',
            type=int,
            default=default,
            metavar='N',
            help=f'{what} images (default: {default})',
        )
    shapes.add_argument(
        '--size',
        type=int,
        nargs=2,
        default=(160, 100),
        metavar=('WIDTH', 'HEIGHT'),
        help='of most images, in pixels (default: 160 100); some have the sides swapped, some differ',
    )
    shapes.add_argument(
        '--shapes',
        type=int,
        nargs=2,
        default=(3, 7),
        metavar=('MIN', 'MAX'),
        help='in an image (default: 3 7), less those that others hide',
    )
    shapes.add_argument(
        '--seed', type=int, default=0, metavar='N', help='another number, other images'
    )
    shapes.add_argument('--format', choices=('png', 'jpg'), default='png', help='default: png')


if __name__ == '__main__':
    main()
