#!/usr/bin/env python
"""Test a checkpoint. The distributed form is tools/dist_test.sh CONFIG CHECKPOINT GPUS."""

import argparse
import copy
from pathlib import Path
from typing import Any

import mmengine
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.registry import METRICS, MODELS, RUNNERS
from mmengine.runner import Runner
from torch import nn

import mmgradaug  # noqa: F401  registers our classes, whether or not the config imports them
from mmgradaug.config_types import class_of, default_scope
from mmgradaug.evaluation.tta import add_tta
from mmgradaug.files import UserError
from mmgradaug.launch import (
    add_common_arguments,
    check_fits,
    load_config,
    prepare_launch,
    require_checkpoint,
)
from mmgradaug.terminal import Terminal


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
    parser.add_argument(
        '--tta',
        action='store_true',
        help="test-time augmentation: the config's tta_model and tta_pipeline; for a classifier without "
        'them the image and its mirror image',
    )
    add_common_arguments(parser)
    return parser.parse_args()


def write_coco_results(cfg: Config, prefix: str) -> None:
    """Have the config's CocoMetric leave its results; UserError if there is none."""
    scope = default_scope(cfg, 'mmdet')
    for metric in metrics_of(cfg):
        found = class_of(metric, METRICS, scope)
        if any(base.__name__ == 'CocoMetric' for base in getattr(found, '__mro__', ())):
            Path(prefix).parent.mkdir(parents=True, exist_ok=True)
            metric['outfile_prefix'] = prefix
            return
    raise UserError('--out-coco: the config has no CocoMetric among its test_evaluator')


def metrics_of(cfg: Config) -> list[dict[str, Any]]:
    """The metrics of the test, in a list that the config has from now on."""
    evaluator = cfg.get('test_evaluator') or []
    if isinstance(evaluator, dict) and 'metrics' in evaluator:  # an evaluator of the user's own
        evaluator['metrics'] = _as_list(evaluator['metrics'])
        return evaluator['metrics']
    cfg.test_evaluator = _as_list(evaluator)
    return cfg.test_evaluator


def _as_list(metrics: Any) -> list[dict[str, Any]]:
    return list(metrics) if isinstance(metrics, (list, tuple)) else [metrics]


def of_another_name(cfg: Config) -> Config:
    """The config as test_NAME.py: the runner writes it to the work dir, where the training's may be.

    (Which a new training would start from, with this test's weights as ``load_from``.)
    """
    path = Path(cfg.filename)
    name = str(path.with_name(f'test_{path.name}'))
    return Config(dict(cfg.items()), cfg_text=cfg.text, filename=name)


def main() -> None:
    args = parse_args()
    cfg = load_config(args.config, args.cfg_options, ['test'], args.work_dir, args.launcher)
    require_checkpoint(args.checkpoint)
    cfg.load_from = args.checkpoint
    if args.tta:
        try:
            add_tta(cfg)
        except ValueError as error:
            raise UserError(f'--tta: {error}') from error
    if args.out_coco:
        write_coco_results(cfg, args.out_coco)
    if args.out:
        metrics_of(cfg).append(dict(type='DumpResults', out_file_path=args.out))
    prepare_launch(cfg, args.local_rank)
    cfg = of_another_name(cfg)
    terminal = Terminal(cfg, args.config)
    with terminal.short_error():
        with terminal.building():
            runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
        model = runner.model
        if not isinstance(model, nn.Module):  # FlexibleRunner builds it when the test begins
            model = MODELS.build(copy.deepcopy(model))
        check_fits(model, args.checkpoint, args.config)
        metrics = runner.test()
    if not is_main_process():
        return
    if args.out_metrics:
        mmengine.dump(metrics, args.out_metrics)
    for name, value in metrics.items():
        print(f'{name}: {value:.4f}' if isinstance(value, float) else f'{name}: {value}')


if __name__ == '__main__':
    main()
