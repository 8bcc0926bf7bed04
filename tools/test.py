#!/usr/bin/env python
"""Test a checkpoint. The distributed form is tools/dist_test.sh CONFIG CHECKPOINT GPUS."""

import argparse
import sys
from pathlib import Path

import mmengine
from common import add_common_arguments, load_config, prepare_launch
from mmengine.evaluator import DumpResults
from mmengine.model import is_model_wrapper
from mmengine.registry import RUNNERS
from mmengine.runner import CheckpointLoader, Runner

import mmgradaug  # noqa: F401  registers our classes, whether or not the config imports them


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Test a checkpoint with the config's test set and metrics."
    )
    parser.add_argument('config', help='the config that the checkpoint was trained with')
    parser.add_argument('checkpoint', help='a .pth file')
    parser.add_argument('--out', metavar='FILE.pkl', help='write every prediction to this file')
    parser.add_argument('--out-metrics', metavar='FILE.json', help='write the metrics to this file')
    add_common_arguments(parser)
    return parser.parse_args()


def check_fits(runner: Runner, checkpoint: str, config: str) -> None:
    """Exit if a weight is missing, too many or of another shape; MMEngine would only warn of it."""
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    loaded = CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu')
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


def main() -> None:
    args = parse_args()
    cfg = load_config(args)
    if '://' not in args.checkpoint and not Path(args.checkpoint).is_file():
        sys.exit(f'{sys.argv[0]}: no such checkpoint: {args.checkpoint}')
    cfg.load_from = args.checkpoint
    prepare_launch(cfg)
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    check_fits(runner, args.checkpoint, args.config)
    if args.out:
        runner.test_evaluator.metrics.append(DumpResults(out_file_path=args.out))
    metrics = runner.test()
    if args.out_metrics and runner.rank == 0:
        mmengine.dump(metrics, args.out_metrics)
    if runner.rank == 0:
        for name, value in metrics.items():
            print(f'{name}: {value:.4f}' if isinstance(value, float) else f'{name}: {value}')


if __name__ == '__main__':
    main()
