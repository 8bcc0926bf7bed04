#!/usr/bin/env python
"""Train from a config. The distributed form is tools/dist_train.sh CONFIG GPUS."""

import argparse
import os
from pathlib import Path

import torch
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

import mmgradaug  # noqa: F401  registers our classes, whether or not the config imports them
from mmgradaug.checkpoint import damage_of, newest_whole_checkpoint
from mmgradaug.files import UserError
from mmgradaug.launch import (
    DumpConfigHook,
    add_common_arguments,
    earlier_dump_kept,
    load_config,
    prepare_launch,
    require_checkpoint,
    warn_of_rates,
)
from mmgradaug.terminal import Terminal


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Train from a config.',
        epilog='Example: %(prog)s configs/gradaug_r50_imagenet.py --auto-scale-lr '
        '--cfg-options train_dataloader.batch_size=32',
    )
    parser.add_argument('config', help='a config file, e.g. configs/gradaug_r50_imagenet.py')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from this checkpoint; without one, from the newest whole one in the work dir',
    )
    parser.add_argument(
        '--from-scratch',
        action='store_true',
        help='with --resume: begin again all the same, whatever lies in the work dir',
    )
    parser.add_argument(
        '--amp', action='store_true', help='automatic mixed precision (needs a GPU)'
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help="scale the learning rate to the real total batch; the config's base_batch_size says "
        'for which one it was set',
    )
    parser.add_argument('--no-validate', action='store_true', help='train without validation')
    add_common_arguments(parser)
    return parser.parse_args()


def was_restarted() -> bool:
    """Whether a launcher has started this very job before: torchrun --max-restarts, or Slurm's requeue."""
    counts = ('TORCHELASTIC_RESTART_COUNT', 'SLURM_RESTART_COUNT')
    return any(int(os.environ.get(name) or 0) > 0 for name in counts)


def main() -> None:
    args = parse_args()
    stages = ['train'] if args.no_validate else ['train', 'val']
    cfg = load_config(args.config, args.cfg_options, stages, args.work_dir, args.launcher)
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.amp:
        if not torch.cuda.is_available():
            raise UserError('--amp needs a GPU, and PyTorch finds none here')
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if args.auto_scale_lr:
        if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
            raise UserError(
                '--auto-scale-lr: the config does not say for which total batch its learning rate is; '
                'add auto_scale_lr = dict(base_batch_size=512)'
            )
        cfg.auto_scale_lr.enable = True
    if was_restarted() and newest_whole_checkpoint([cfg.work_dir])[0] is not None:
        args.resume, args.from_scratch = 'auto', False
    if args.resume is not None and not args.from_scratch:
        cfg.resume = True
        if args.resume != 'auto':
            require_checkpoint(args.resume)
            path = Path(args.resume).expanduser()
            damage = damage_of(path) if '://' not in args.resume else None
            if damage is not None:
                raise UserError(
                    f'--resume: the checkpoint {args.resume} {damage}. Take another one; --resume without a file '
                    'takes the newest whole one of the work dir'
                )
        cfg.load_from = None if args.resume == 'auto' else args.resume
    prepare_launch(cfg, args.local_rank)
    terminal = Terminal(cfg, args.config)
    with terminal.short_error():
        with terminal.building(), earlier_dump_kept(cfg):
            runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
        runner.register_hook(DumpConfigHook())
        warn_of_rates(cfg, runner)
        runner.train()


if __name__ == '__main__':
    main()
