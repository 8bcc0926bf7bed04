"""Running the project's commands as users do, cut down to tiny data."""

import importlib.metadata
import importlib.util
import io
import json
import os
import subprocess
import sys
import traceback
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from mmgradaug import cli

ROOT = Path(__file__).parents[1]
# OneDL's fork of OpenMMLab, on which `make test-onedl` runs these tests.
ON_ONEDL = any(importlib.metadata.distributions(name='onedl-mmengine'))
# A network for the runs that are not about ResNet-50.
SMALL = ['model.backbone.depth=18', 'model.head.in_channels=512']
# ResNet-50 Mask R-CNN cut down to a tiny one, by options alone.
TINY_MASK_RCNN = [
    'model.backbone.depth=18', 'model.backbone.base_channels=8', 'model.neck.in_channels=[8,16,32,64]',
    'model.neck.out_channels=32', 'model.rpn_head.in_channels=32', 'model.rpn_head.feat_channels=32',
    'model.roi_head.bbox_roi_extractor.out_channels=32', 'model.roi_head.bbox_head.in_channels=32',
    'model.roi_head.bbox_head.fc_out_channels=32', 'model.roi_head.bbox_head.num_classes=3',
    'model.roi_head.mask_roi_extractor.out_channels=32', 'model.roi_head.mask_head.in_channels=32',
    'model.roi_head.mask_head.conv_out_channels=32', 'model.roi_head.mask_head.num_classes=3',
    # An untrained detector is sure of nothing.
    'model.test_cfg.rcnn.score_thr=0.0',
    *(f'{name}_dataloader.dataset.metainfo.classes=[circle,square,triangle]'
      for name in ('train', 'val', 'test')),
    *(f'{name}_dataloader.num_workers=0' for name in ('train', 'val', 'test')),
    *(f'{name}_dataloader.persistent_workers=False' for name in ('train', 'val', 'test')),
    'train_dataloader.dataset.pipeline.2.scale=(160,100)',
    'val_dataloader.dataset.pipeline.1.scale=(160,100)',
    'test_dataloader.dataset.pipeline.1.scale=(160,100)',
    'default_hooks.logger.interval=1',
]  # fmt: skip
NO_GPU = {'CUDA_VISIBLE_DEVICES': '', 'OMP_NUM_THREADS': '1', 'PYTHONWARNINGS': 'ignore'}


def options(imagenet, *more):
    return [
        '--cfg-options',
        f'train_dataloader.dataset.data_root={imagenet}',
        f'val_dataloader.dataset.data_root={imagenet}',
        f'test_dataloader.dataset.data_root={imagenet}',
        *(f'{name}_dataloader.num_workers=0' for name in ('train', 'val', 'test')),
        *(f'{name}_dataloader.dataset.indices=8' for name in ('train', 'val', 'test')),
        'train_dataloader.batch_size=4',
        'train_dataloader.dataset.pipeline.1.scale=64',
        'model.gradaug.transforms.sizes=[64,48]',
        'train_cfg.max_epochs=1',
        'default_hooks.logger.interval=1',
        *more,
    ]


def run(*command, cwd=ROOT, **env):
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **NO_GPU, 'PYTHON': sys.executable, **env},
        capture_output=True,
        text=True,
        timeout=600,
    )
    return done.returncode, done.stdout + done.stderr


MMGRADAUG = [sys.executable, '-m', 'mmgradaug.cli']


def run_mmgradaug(*arguments, **more):
    """The command in a process of its own."""
    return run(*MMGRADAUG, *arguments, **more)


def mmgradaug(*arguments):
    """The command in this process, which spares its imports."""
    cli.main([str(argument) for argument in arguments])


def exit_code(*arguments):
    """Of the command in this process; its message goes to standard error, as Python prints it."""
    try:
        mmgradaug(*arguments)
    except SystemExit as stop:
        if not isinstance(stop.code, str):
            return stop.code or 0
        print(stop.code, file=sys.stderr)
        return 1
    return 0


def parsed(*arguments):
    return cli.build_parser().parse_args([str(argument) for argument in arguments])


def load_tool(name):
    """A script of tools/ as a module, for its functions."""
    spec = importlib.util.spec_from_file_location(f'tool_{name}', ROOT / 'tools' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_tool(name, *arguments, cwd=ROOT, **env):
    """tools/NAME.py as ``run`` does it, but in this process, which spares its imports."""
    output = io.StringIO()
    patched = pytest.MonkeyPatch.context()
    with patched as patch, redirect_stdout(output), redirect_stderr(output):
        patch.chdir(cwd)
        for key, value in {'LOCAL_RANK': '0', **env}.items():
            patch.setenv(key, value)
        patch.setattr(sys, 'argv', [f'{name}.py', *map(str, arguments)])
        try:
            load_tool(name).main()
        except SystemExit as stop:
            print(stop.code)
            return 1, output.getvalue()
        except Exception:
            traceback.print_exc()
            return 1, output.getvalue()
    return 0, output.getvalue()


def run_two_ranks(script, folder):
    """What ``find(rank)`` of a script of tests/ gives in each of two gloo processes."""
    code = f'import command_line; command_line.fork_two_ranks({script!r}, {str(folder)!r})'
    env = {**os.environ, **NO_GPU, 'PYTHONPATH': f'{ROOT}:{ROOT / "tests"}'}
    done = subprocess.run(
        [sys.executable, '-c', code], env=env, stderr=subprocess.PIPE, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f'rank{rank}.pth', weights_only=True) for rank in range(2)]


def fork_two_ranks(script, folder):
    """Part in two, with everything imported already; each leaves FOLDER/rank{RANK}.pth."""
    find = importlib.import_module(script).find
    torch.set_num_threads(1)  # other threads do not survive a fork
    torch.multiprocessing.start_processes(_be_a_rank, (find, folder), 2, start_method='fork')


def _be_a_rank(rank, find, folder):
    dist.init_process_group('gloo', init_method=f'file://{folder}/group', rank=rank, world_size=2)
    torch.save(find(rank), f'{folder}/rank{rank}.pth')
    dist.barrier()
    dist.destroy_process_group()


def scalars(work_dir):
    """The training iterations of the newest run in a work dir."""
    newest = max(Path(work_dir).glob('*/vis_data/scalars.json'), key=os.path.getmtime)
    lines = [json.loads(line) for line in newest.read_text().splitlines()]
    return [line for line in lines if 'loss' in line]
