"""What tools/train.py and tools/test.py share: OpenMMLab's flags, and running without a GPU."""

import argparse
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from mmengine.config import Config, DictAction


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--work-dir', help='where logs and checkpoints go')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override settings of the config, e.g. --cfg-options train_dataloader.batch_size=128 '
        'model.gradaug.min_width=0.8; a list as key="[a,b]", without white space',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='how the processes of a distributed run are started (tools/dist_*.sh set it)',
    )
    # Older launchers pass it instead of setting LOCAL_RANK.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def load_config(args: argparse.Namespace) -> Config:
    """The config with the command line's say: launcher, work dir, options, and what a CPU needs."""
    if not Path(args.config).is_file():
        sys.exit(f'{sys.argv[0]}: no such config: {args.config}')
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = Config.fromfile(args.config)
    cfg.launcher = args.launcher
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / Path(args.config).stem)
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        loader = cfg.get(name) or {}
        if loader.get('pin_memory') and not torch.cuda.is_available():
            loader.pin_memory = False
        if loader.get('persistent_workers') and loader.get('num_workers', 0) == 0:
            loader.persistent_workers = False  # PyTorch refuses it without workers
    return cfg


def prepare_launch(cfg: Config) -> None:
    """Make a distributed run work without a GPU too, and refuse more processes than GPUs."""
    if cfg.launcher != 'pytorch':
        return
    processes = int(os.environ.get('LOCAL_WORLD_SIZE', 1))
    if torch.cuda.is_available():
        if processes > torch.cuda.device_count():
            sys.exit(
                f'{processes} processes were started on a machine with {torch.cuda.device_count()} '
                'GPUs: start one a GPU'
            )
        return
    # MMEngine would set a CUDA device before it starts the process group, and tell DDP of one.
    dist.init_process_group('gloo')
    cfg.model_wrapper_cfg = cfg.get('model_wrapper_cfg') or dict(
        type='MMDistributedDataParallel', broadcast_buffers=False
    )
    cfg.model_wrapper_cfg.device_ids = None
