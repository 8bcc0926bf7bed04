"""What training and testing share: OpenMMLab's flags, running without a GPU, strictness on checkpoints."""

import argparse
import os
import pickle
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from mmengine.config import Config, DictAction
from mmengine.model import is_model_wrapper
from mmengine.runner import CheckpointLoader

from .resources import find_config

# MMDetection imports imagecorruptions where it is installed; nobody here can mend that.
warnings.filterwarnings('ignore', 'pkg_resources is deprecated as an API', UserWarning)


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
    config = find_config(args.config)
    if config is None:
        sys.exit(f'{sys.argv[0]}: no such config: {args.config}')
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = Config.fromfile(config)
    cfg.launcher = args.launcher
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / Path(args.config).stem)
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        loader: Any = cfg.get(name) or {}
        if loader.get('pin_memory') and not torch.cuda.is_available():
            loader.pin_memory = False
        if loader.get('persistent_workers') and loader.get('num_workers', 0) == 0:
            loader.persistent_workers = False  # PyTorch refuses it without workers
    return cfg


def parse_options(options: Sequence[str]) -> dict[str, Any]:
    """KEY=VALUE, as ``--cfg-options`` takes them, for ``Config.merge_from_dict``."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='*', action=DictAction)
    return parser.parse_args(['--cfg-options', *options]).cfg_options or {}


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


def require_checkpoint(checkpoint: str) -> None:
    """Exit if there is no such file; of a URL nothing is known yet."""
    if '://' not in checkpoint and not Path(checkpoint).is_file():
        sys.exit(f'{sys.argv[0]}: no such checkpoint: {checkpoint}')


def check_fits(model: torch.nn.Module, checkpoint: str, config: str) -> None:
    """Exit if a weight is missing, too many or of another shape; MMEngine would only warn of it."""
    bare: Any = model.module if is_model_wrapper(model) else model
    wanted = {name: tuple(value.shape) for name, value in bare.state_dict().items()}
    try:
        loaded = CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu')
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        sys.exit(f'{checkpoint} is not a checkpoint that PyTorch can read: {error}')
    weights = loaded.get('state_dict', loaded)
    found = {
        name[7:] if name.startswith('module.') else name: tuple(value.shape)
        for name, value in weights.items()
    }
    differing = sorted(name for name in {*wanted, *found} if wanted.get(name) != found.get(name))
    if differing:
        lines = [
            f'  {name}: {found.get(name, "missing")} in the checkpoint, '
            f'{wanted.get(name, "unknown")} in the model'
            for name in differing[:5]
        ]
        if len(differing) > 5:
            lines.append(f'  ... and {len(differing) - 5} more')
        sys.exit('\n'.join([f'{checkpoint} is not a checkpoint of {config}:', *lines]))
