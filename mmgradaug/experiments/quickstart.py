"""The quick starts: GradAug against plain training, and plain training at equal cost, in minutes on a CPU."""

import argparse
import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmgradaug.files import UserError, short
from mmgradaug.grids import show
from mmgradaug.resources import CONFIGS

from .lock import locked
from .reading import read_work_dirs
from .report import write_report
from .runs import Run, read_config, remove
from .summary import summary, verdicts
from .sweep import Sweep, check_arguments

DIGITS, SHAPES = 'digits', 'shapes'
# Of the test images that detections are drawn on; the first few are oddities.
PICTURED = range(6, 60)
# What a first look at the shapes needs; written out, as data of another number must not be taken for these.
SHAPES_MADE: dict[str, Any] = dict(
    train=300, val=60, size=(160, 100), seed=0, shapes=(3, 7), image_format='png'
)
NEEDED = {
    DIGITS: {'sklearn': 'scikit-learn', 'matplotlib': 'matplotlib'},
    SHAPES: {'mmdet': 'mmdet', 'matplotlib': 'matplotlib', 'pycocotools': 'pycocotools'},
}
SCALES = {
    DIGITS: "A small ResNet on 100 of scikit-learn's digits",
    SHAPES: 'A tiny Mask R-CNN on 30 drawn images of shapes',
}
NEXT = {
    DIGITS: ('quickstart/digits_gradaug.py', 'gradaug_r50_imagenet.py', 'ImageNet'),
    SHAPES: ('quickstart/shapes_gradaug.py', 'mask_rcnn_gradaug.py', 'COCO'),
}


def run(args: argparse.Namespace) -> None:
    """The command. Raises UserError if something is missing, or a training failed."""
    check_installed(NEEDED[args.data])
    seeds = {DIGITS: 5, SHAPES: 1}[args.data]
    if args.quick:
        seeds, args.iterations = min(seeds, 2), args.iterations or 20
    work_dir = args.work_dir or Path('work_dirs') / f'quickstart_{args.data}'
    options = list(args.cfg_options)
    if args.data == SHAPES:
        images = prepare_shapes(args.shapes.resolve())
        options += data_options(images)
    sweep_args = argparse.Namespace(
        names=[
            str(CONFIGS / f'quickstart/{args.data}_{which}.py') for which in ('baseline', 'gradaug')
        ],
        only=[],
        seeds=args.seeds or seeds,
        work_dir=work_dir,
        overlay=None,
        cfg_options=options,
        equal_cost=True,
        iterations=args.iterations,
        jobs=args.jobs,
        device='cpu',
        auto_scale_lr=False,
        overwrite=True,
        list=False,
        folds=False,
        slurm=None,
        srun_args=None,
        resubmit=False,
        tool=args.tool,
    )
    check_arguments(sweep_args)
    work_dir = sweep_args.work_dir
    with locked(work_dir) as lock:
        if not args.resume:
            clear(work_dir)
        sweep = Sweep(sweep_args)
        sweep.lock = lock
        sweep.data['scale'] = SCALES[args.data]
        for item in sweep.everything():
            item.row = replace(item.row, label='GradAug' if 'gradaug' in item.key else 'plain')
        sweep.prepare()
        sweep.write()
        sweep.train(keep_going=False)
    if args.data == SHAPES and args.pictures:
        draw_detections(sweep, work_dir / 'detections', args.pictures)
    whole = read_config(sweep.items[0].base).train_cfg.max_iters
    tell(args.data, work_dir, args.iterations is None or args.iterations >= whole)


def tell(data: str, work_dir: Path, is_whole: bool) -> None:
    """The table, the report, and what to do next; of a shortened training no verdict."""
    (group,) = read_work_dirs([work_dir / 'runs']).groups
    print()
    show(summary(group))
    print('Memory: largest resident set of a training process, nearly all of it libraries.\n')
    print(
        '\n'.join(verdicts(group))
        if is_whole
        else 'Trained too short to compare: that it runs is all that this shows.'
    )
    own, papers, name = NEXT[data]
    print(f'This is a small-scale demonstration: it says nothing about {name}.')
    write_report([work_dir / 'runs'], work_dir, f'Quick start: {data}')
    print(f'\nA page with curves: {short(work_dir / "index.html")}')
    if (work_dir / 'detections' / 'overview.png').exists():
        print(
            f'Detections beside the ground truth: {short(work_dir / "detections" / "overview.png")}'
        )
    print(
        f'Next, your own setting: mmgradaug train {short(CONFIGS / own)} --cfg-options '
        f"model.gradaug.num_subnets=2; the paper's: {short(CONFIGS / papers)}"
    )


def clear(work_dir: Path) -> None:
    """Remove what an earlier quick start left: if this one fails midway, nothing old passes for new."""
    for name in ('runs', 'detections', 'slurm'):
        remove(work_dir / name)
    for name in ('sweep.json', 'index.html', 'report.md'):
        (work_dir / name).unlink(missing_ok=True)
    for file in work_dir.glob('runs-*.png'):
        file.unlink()


def prepare_shapes(folder: Path) -> Path:
    """Make the data set, or see that it is this very one.

    Raises:
        UserError: the folder holds something else, or cannot be written.
    """
    from mmgradaug.datasets import drawn_shapes

    if folder.is_dir() and any(folder.iterdir()):
        if not drawn_shapes.holds(folder, **SHAPES_MADE):
            raise UserError(
                f'{short(folder)} does not hold what mmgradaug shapes makes by default: name another '
                f'folder by --shapes, or remove this one (rm -r {short(folder)})'
            )
        print(f'The shapes in {short(folder)} are used again.', flush=True)
        return folder
    try:
        drawn_shapes.generate(folder, **SHAPES_MADE)
    except OSError as error:
        raise UserError(f'the shapes cannot be made: {error}') from error
    made = f'{SHAPES_MADE["train"]} images to train with and {SHAPES_MADE["val"]} to test with'
    print(f'Made {made} in {short(folder)}.', flush=True)
    return folder


def data_options(folder: Path) -> list[str]:
    annotations = folder / 'annotations' / 'instances_val2017.json'
    return [
        *(f'{loader}_dataloader.dataset.data_root={folder}' for loader in ('train', 'val', 'test')),
        *(f'{name}_evaluator.ann_file={annotations}' for name in ('val', 'test')),
    ]


def draw_detections(sweep: Sweep, out: Path, number: int) -> None:
    """What the networks of the first seed find, beside the ground truth."""
    from mmgradaug.evaluation import detections

    plain, gradaug, longer = sweep.triples[0]
    models = []
    for item in (longer, gradaug):
        run: Run = sweep.make_run(item, 0)
        checkpoint = (run.folder / 'last_checkpoint').read_text().strip()
        models.append((str(run.folder / run.config.name), str(run.folder / checkpoint)))
    detections.run(
        argparse.Namespace(
            config=models[0][0],
            checkpoint=models[0][1],
            also=models[1:],
            titles=[longer.label, gradaug.label],
            num=number,
            indices=list(PICTURED[:number]),
            ids=None,
            score_thr=0.3,
            out=out,
            cfg_options=[],
        )
    )


def check_installed(distributions: dict[str, str]) -> None:
    """Raise UserError, with what to type, if a module is missing.

    Args:
        distributions: names for pip, by module.
    """
    missing = [
        name for module, name in distributions.items() if not importlib.util.find_spec(module)
    ]
    if missing:
        raise UserError(
            f'the quick start needs {" and ".join(missing)}, not installed here. Type: '
            f'{sys.executable} -m pip install {" ".join(missing)}; mmgradaug doctor says what else is missing'
        )
