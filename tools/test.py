#!/usr/bin/env python
"""Test a checkpoint. The distributed form is tools/dist_test.sh CONFIG CHECKPOINT GPUS."""

import argparse
import sys
from pathlib import Path
from typing import Any

import mmengine
from mmengine.evaluator import DumpResults
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

import mmgradaug  # noqa: F401  registers our classes, whether or not the config imports them
from mmgradaug.launch import (
    add_common_arguments,
    check_fits,
    load_config,
    prepare_launch,
    require_checkpoint,
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Test a checkpoint with the config's test set and metrics."
    )
    parser.add_argument('config', help='the config that the checkpoint was trained with')
    parser.add_argument('checkpoint', help='a .pth file')
    parser.add_argument('--out', metavar='FILE.pkl', help='write every prediction to this file')
    parser.add_argument('--out-metrics', metavar='FILE.json', help='write the metrics to this file')
    parser.add_argument(
        '--out-coco',
        metavar='PREFIX',
        help="write detections in COCO's form to PREFIX.bbox.json and PREFIX.segm.json",
    )
    add_common_arguments(parser)
    return parser.parse_args()


def write_coco_results(evaluators: Any, prefix: str) -> None:
    """Have the config's CocoMetric leave its results; exit if there is none."""
    evaluators = evaluators if isinstance(evaluators, list) else [evaluators or {}]
    metrics = [each for each in evaluators if str(each.get('type')).endswith('CocoMetric')]
    if not metrics:
        sys.exit('--out-coco: the config has no CocoMetric among its test_evaluator')
    Path(prefix).parent.mkdir(parents=True, exist_ok=True)
    metrics[0]['outfile_prefix'] = prefix


def main() -> None:
    args = parse_args()
    cfg = load_config(args)
    require_checkpoint(args.checkpoint)
    cfg.load_from = args.checkpoint
    if args.out_coco:
        write_coco_results(cfg.get('test_evaluator'), args.out_coco)
    prepare_launch(cfg)
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    check_fits(runner.model, args.checkpoint, args.config)
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
