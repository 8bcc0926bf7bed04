#!/usr/bin/env python
"""GradAug against plain training of a tiny Mask R-CNN on drawn shapes, in minutes on a CPU."""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Optional

import make_shapes
import numpy as np
from PIL import Image
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
    UserError,
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

BASELINE = ROOT / 'configs' / 'quickstart' / 'shapes_baseline.py'
GRADAUG = ROOT / 'configs' / 'quickstart' / 'shapes_gradaug.py'
CONFIGS = {PLAIN: BASELINE, WITH_GRADAUG: GRADAUG, EQUAL_COST: BASELINE}
SHOW = ROOT / 'tools' / 'show_detections.py'

BOX_AP = Metric('box_ap', 'coco/bbox_mAP', 'box AP', 'box AP', factor=100)
MASK_AP = Metric('mask_ap', 'coco/segm_mAP', 'mask AP', 'mask AP', factor=100)
METRICS = (BOX_AP, MASK_AP)
EVALUATIONS = 5  # of each run, equally far apart
# Log entries that tell what an iteration of GradAug costs; with two cores and one seed, the longer
# plain training then need not wait for GradAug's.
WINDOWS = 10
PACKAGES = ('torch', 'mmengine', 'mmdet', 'mmgradaug', 'pycocotools')
# What tools/make_shapes.py makes if it is told nothing else; written out, as data of another number
# or kind must not be taken for these.
SHAPES = dict(train=300, val=60, size=(160, 100), seed=0, shapes=(3, 7), image_format='png')
# Of the test images; the first few are oddities.
PICTURED = range(6, 60)
# What this tool sets itself in each run.
OWN_SETTINGS = (
    'train_cfg',
    'param_scheduler',
    'randomness',
    'train_dataloader.dataset.image_seed',
    *(f'{loader}_dataloader.dataset.data_root' for loader in ('train', 'val', 'test')),
    *(f'{name}_evaluator.ann_file' for name in ('val', 'test')),
    'work_dir',
)


def prepare_shapes(folder: Path) -> None:
    """Make the data set, or see that it is this very one.

    Raises:
        UserError: the folder holds something else, or cannot be written.
    """
    if folder.is_dir() and any(folder.iterdir()):
        if not holds_shapes(folder):
            raise UserError(
                f'{short(folder)} does not hold what tools/make_shapes.py makes by default: name '
                f'another folder by --data, or remove this one (rm -r {short(folder)})'
            )
        print(f'The shapes in {short(folder)} are used again.', flush=True)
        return
    begin = time.monotonic()
    try:
        make_shapes.generate(folder, **SHAPES)
    except OSError as error:
        raise UserError(f'the shapes cannot be made: {error}') from error
    print(
        f'Made {SHAPES["train"]} images of shapes to train with and {SHAPES["val"]} to test with '
        f'in {short(folder)} ({time.monotonic() - begin:.0f} s).',
        flush=True,
    )


def holds_shapes(folder: Path) -> bool:
    """Whether a folder has as many images as :data:`SHAPES`, of which first and last are drawn alike."""
    for split in make_shapes.SPLITS:
        try:
            file = folder / make_shapes.ANNOTATIONS / f'instances_{split}2017.json'
            content = json.loads(file.read_text())
            if len(content['images']) != SHAPES[split]:
                return False
            for index in (0, SHAPES[split] - 1):
                pixels, image_id, annotations = make_shapes.make_image(
                    split, index, SHAPES['size'], SHAPES['seed'], SHAPES['shapes']
                )
                image = content['images'][index]
                found = [one for one in content['annotations'] if one['image_id'] == image['id']]
                with Image.open(folder / f'{split}2017' / image['file_name']) as picture:
                    same = np.array_equal(np.asarray(picture), pixels)
                # Through JSON, which knows no tuples.
                if not (same and found == json.loads(json.dumps(annotations))):
                    return False
        except (OSError, ValueError, KeyError, TypeError):
            return False
    return True


def make_run(method: str, seed: int, iterations: int, args: argparse.Namespace) -> Run:
    """One training, with its own draw of training images."""
    options = [
        *_data_options(args.data),
        f'randomness.seed={seed}',
        f'train_dataloader.dataset.image_seed={seed}',
        f'train_cfg.max_iters={iterations}',
        f'train_cfg.val_interval={max(1, iterations // EVALUATIONS)}',
        f'param_scheduler.1.end={iterations}',
        *(o for o in args.cfg_options if method == WITH_GRADAUG or not is_gradaug_option(o)),
    ]
    return Run(
        method,
        seed,
        iterations,
        args.work_dir / f'{method}-seed{seed}',
        config=CONFIGS[method],
        options=options,
        metrics=METRICS,
        name=NAMES[method],
    )


def _data_options(folder: Path) -> list[str]:
    annotations = folder / make_shapes.ANNOTATIONS / 'instances_val2017.json'
    return [
        *(f'{loader}_dataloader.dataset.data_root={folder}' for loader in ('train', 'val', 'test')),
        *(f'{name}_evaluator.ann_file={annotations}' for name in ('val', 'test')),
    ]


def draw(results: dict[str, Any], file: Path) -> None:
    """AP and training loss over what training cost."""
    seeds = len(results['setting']['seeds'])
    panels = [
        Panel(
            f'{metric.key}_curve',
            f'{metric.name} on {SHAPES["val"]} test images: mean of {seeds} seed{"s" * (seeds > 1)}'
            + (', band: one deviation' if seeds > 1 else ''),
            f'{metric.name} (%)',
            metric=metric,
            band=True,
        )
        for metric in METRICS
    ]
    panels.append(
        Panel(
            'loss_curve',
            'Training loss of the full network: mean',
            "sum of the detector's losses (log scale)",
            log=True,
        )
    )
    title = "A tiny Mask R-CNN on drawn shapes. Small scale, none of the paper's figures."
    draw_curves(results, panels, title, file)


def show(runs: Sequence[Run], out: Path, number: int) -> None:
    """Draw what the networks of the first seed find.

    Raises:
        UserError: tools/show_detections.py failed.
    """
    models = []
    for method in (EQUAL_COST, WITH_GRADAUG):
        run = next(run for run in runs if run.method == method)
        checkpoint = run.work_dir / 'last_checkpoint'
        weights = str(run.work_dir / checkpoint.read_text().strip())
        models.append((run.name, run.work_dir / run.config.name, weights))
    (plain, config, checkpoint), (ours, *also) = models
    done = subprocess.run(
        [
            *(sys.executable, str(SHOW), str(config), checkpoint, '--also', *map(str, also)),
            *('--titles', plain, ours, '--out-dir', str(out)),
            *('--indices', *map(str, PICTURED[:number])),
        ],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode != 0:
        lines = '\n'.join(f'  | {line}' for line in done.stdout.splitlines()[-10:])
        raise UserError(f'the detections could not be drawn:\n{lines}')


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Train a tiny Mask R-CNN on drawn circles, squares and triangles, on the CPU: '
        'plainly, with GradAug, and plainly for as long as GradAug took. Writes results.json, '
        'curves.png and pictures of detections to the work dir. Each seed has its own training '
        'images, weights and draws.',
        epilog='Everything is trained anew, unless --resume is given, and what an earlier quick '
        'start left in the work dir is replaced. Examples: python tools/quickstart_detection.py '
        '--seeds 3; python tools/quickstart_detection.py --cfg-options '
        'model.gradaug.subnets_learn=soft_labels --work-dir work_dirs/soft_labels',
    )
    parser.add_argument(
        '--seeds', type=int, metavar='N', help='seeds 0 to N-1 for each method (default: 1)'
    )
    add_run_arguments(parser)
    parser.add_argument(
        '--quick',
        action='store_true',
        help='1 seed, 20 iterations: to see that it works; the figures say nothing',
    )
    parser.add_argument(
        '--data',
        type=Path,
        default=ROOT / 'data' / 'shapes',
        metavar='DIR',
        help='the images; made there if the folder is new or empty (default: data/shapes in the '
        'repository)',
    )
    parser.add_argument(
        '--pictures',
        type=int,
        default=6,
        metavar='N',
        help='test images to draw detections on (default: %(default)s)',
    )
    parser.add_argument(
        '--work-dir',
        '--out',
        type=Path,
        default=ROOT / 'work_dirs' / 'quickstart_detection',
        metavar='DIR',
        help='where everything else goes (default: work_dirs/quickstart_detection in the '
        'repository)',
    )
    parser.add_argument(
        '--resume',
        action='store_true',
        help='keep trainings of the same settings that an earlier call finished',
    )
    args = parser.parse_args(argv)
    if args.seeds is None:
        args.seeds = 1
    if args.iterations is None and args.quick:
        args.iterations = 20
    check_run_arguments(parser, args, OWN_SETTINGS, '--seeds, --iterations, --data')
    if not 0 <= args.pictures <= len(PICTURED):
        parser.error(f'--pictures must be from 0 to {len(PICTURED)}, got {args.pictures}')
    args.work_dir, args.data = args.work_dir.resolve(), args.data.resolve()
    return args


def quickstart_detection(args: argparse.Namespace) -> None:
    """Make the data, train, and tell.

    Raises:
        UserError: something is missing, or a training failed.
    """
    check_requirements()
    begin = time.monotonic()
    iterations = args.iterations or read_config(GRADAUG).train_cfg.max_iters
    prepare_shapes(args.data)
    args.work_dir.mkdir(parents=True, exist_ok=True)
    results_file, picture = args.work_dir / 'results.json', args.work_dir / 'curves.png'
    detections = args.work_dir / 'detections'
    # If this fails midway, nothing old passes for new.
    for old in (results_file, picture, *detections.glob('*.png')):
        old.unlink(missing_ok=True)

    def plan(method: str, length: int) -> list[Run]:
        return [make_run(method, seed, length, args) for seed in range(args.seeds)]

    print(
        f'{3 * args.seeds} trainings of a tiny Mask R-CNN, {args.jobs} side by side: plain, '
        f'GradAug, plain at equal cost, {args.seeds} seed{"s" * (args.seeds > 1)} each.',
        flush=True,
    )
    progress = Progress(3 * args.seeds, args.jobs)
    runs, ratio = train_at_equal_cost(plan, iterations, args.jobs, progress, args.resume, WINDOWS)
    if args.pictures:
        progress.say(f'Drawing detections on {args.pictures} test images.')
        show(runs, detections, args.pictures)

    methods = summarise(runs, ratio)
    comparison = {metric.key: compare(methods, metric.key, metric.name) for metric in METRICS}
    results = {
        'created': datetime.now().astimezone().isoformat(timespec='seconds'),
        'setting': {**setting(args, iterations, PACKAGES), 'shapes': SHAPES},
        'cost_ratio': ratio,
        'cost_ratio_from': 'median of the logged times of an iteration, GradAug / plain; of GradAug '
        f'the first {WINDOWS} entries of each run',
        'peak_memory_is': MEMORY_NOTE,
        'wall_seconds': time.monotonic() - begin,
        'methods': methods,
        'comparison': {**comparison, **compare_times(methods)},
    }
    draw(results, picture)
    results_file.write_text(json.dumps(results, indent=1) + '\n')
    sentences = [comparison[metric.key]['sentence'] for metric in METRICS]
    print(
        f'\n{table(methods, METRICS)}\n'
        f"COCO's AP in per cent: mean and deviation over {args.seeds} "
        f'seed{"s" * (args.seeds > 1)}, final weights; '
        f'minutes: of one training, without start-up;\n{MEMORY_NOTE}\n'
        f'\n{sentences[0]}\n{sentences[1]}\n{results["comparison"]["time_sentence"]}\n'
        'This is a small-scale demonstration: it says nothing about COCO.\n'
        f'\nFigures: {short(results_file)}   curves: {short(picture)}   '
        f'({results["wall_seconds"] / 60:.1f} minutes in all)'
    )
    if args.pictures:
        print(f'Detections beside the ground truth: {short(detections / "overview.png")}')
    print(
        'Next, your own setting: '
        f'{short(Path(sys.executable))} tools/train.py configs/quickstart/shapes_gradaug.py '
        "--cfg-options model.gradaug.num_subnets=2; the paper's: configs/mask_rcnn_gradaug.py"
    )


def check_requirements() -> None:
    """Raise UserError, with what to type, if a package is missing."""
    check_installed(
        'the quick start',
        {'matplotlib': 'matplotlib', 'pycocotools': 'pycocotools'},
        ('mmengine', 'mmdet', 'mmgradaug'),
    )


def main() -> int:
    args = parse_args()
    return run_tool('quickstart_detection', lambda: quickstart_detection(args))


if __name__ == '__main__':
    sys.exit(main())
