#!/usr/bin/env python
"""Time, FLOPs and peak memory of a GradAug iteration beside a plain one, in one run.

Plain and GradAug iterations take turns, so a machine that slows down slows both. The bound is 1.05 times
the ratio of the FLOPs that PyTorch's counter finds in the drawn iterations: what GradAug must cost, and
5% for all the rest; for detectors 10%. (FLOPs here are PyTorch's: a multiply-add counts two; RoIAlign and
NMS count nothing.) Where the rest goes shows benchmarks/subnetwork_time.py.

Weights are random, and the learning rate is zero, so that an iteration can be repeated to count its FLOPs.

Example: python benchmarks/step_time.py --json step_time.json
         python benchmarks/step_time.py --config configs/mask_rcnn_gradaug.py --batch 1 --iterations 4
"""

import argparse
import copy
import json
import statistics
import time
from collections.abc import Sequence
from typing import Any, Callable, Optional

import measuring
import numpy as np
import torch
from mmengine.config import Config, DictAction
from mmengine.logging import MMLogger
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS, init_default_scope
from mmpretrain.models import ImageClassifier
from mmpretrain.structures import DataSample
from torch import nn

from mmgradaug.engine import GradAugMixin

# Options of a ResNet, and those that go with --config.
OF_RESNETS: dict[str, Any] = dict(
    depth=50, size=224, num_subnets=3, min_width=0.9, sizes=[224, 192, 160, 128]
)
OF_CONFIGS: dict[str, Any] = dict(cfg_options={}, image_size=None, instances=7, polygons=False)


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--batch', type=int, help="images (default: 8, or the config's)")
    parser.add_argument('--iterations', type=int, default=12, help='measured (default: 12)')
    parser.add_argument('--threads', type=int, default=2, help='on the CPU (default: 2)')
    parser.add_argument('--seed', type=int, default=0, help='of the draws (default: 0)')
    parser.add_argument('--json', metavar='FILE', help='write the results to this file')

    resnets = parser.add_argument_group("MMPretrain's ResNets, which are measured by default")
    resnets.add_argument('--depth', type=int, help="ResNet's depth (default: 50)")
    resnets.add_argument('--size', type=int, help='pixels (default: 224)')
    resnets.add_argument('--num-subnets', type=int, help='n (default: 3)')
    resnets.add_argument('--min-width', type=float, help='alpha (default: 0.9)')
    resnets.add_argument(
        '--sizes', type=int, nargs='+', help='of the random scale (default: 224 192 160 128)'
    )

    configs = parser.add_argument_group('any other GradAug model, for classification or detection')
    configs.add_argument('--config', metavar='FILE', help='what to measure instead')
    configs.add_argument(
        '--cfg-options', nargs='+', action=DictAction, help='override settings of the config'
    )
    configs.add_argument(
        '--image-size',
        type=int,
        nargs=2,
        metavar=('WIDTH', 'HEIGHT'),
        help="pixels (default: the scale in the config's training pipeline)",
    )
    configs.add_argument('--instances', type=int, help='objects in each image (default: 7)')
    configs.add_argument(
        '--polygons', action='store_true', default=None, help='masks are polygons, not bitmaps'
    )

    args = parser.parse_args(argv)
    used, unused = (OF_CONFIGS, OF_RESNETS) if args.config else (OF_RESNETS, OF_CONFIGS)
    for name in unused:
        if getattr(args, name) is not None:
            option = '--' + name.replace('_', '-')
            parser.error(
                f'{option} is without effect {"with" if args.config else "without"} --config'
            )
        delattr(args, name)
    for name, default in used.items():
        if getattr(args, name) is None:
            setattr(args, name, default)
    return args


def resnet(args: argparse.Namespace) -> dict[str, Any]:
    """The model's config without --config."""
    return dict(
        type='mmgradaug.GradAugClassifier',
        gradaug=dict(
            num_subnets=args.num_subnets,
            min_width=args.min_width,
            transforms=dict(type='RandomResize', sizes=args.sizes),
        ),
        backbone=dict(type='mmpretrain.ResNet', depth=args.depth),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(
            type='mmpretrain.LinearClsHead',
            num_classes=1000,
            in_channels=2048 if args.depth >= 50 else 512,
        ),
        data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor', num_classes=1000),
    )


def read_model(args: argparse.Namespace) -> dict[str, Any]:
    """The model's config; what ``args`` leave open is filled in from --config, or set to defaults."""
    if not args.config:
        args.batch = args.batch or 8
        return resnet(args)
    config = Config.fromfile(args.config)
    config.merge_from_dict(args.cfg_options)
    if 'gradaug' not in config.model:
        raise SystemExit(f'{args.config} does not train by GradAug: model has no gradaug=dict(...)')
    from mmgradaug.config_types import default_scope

    init_default_scope(default_scope(config, 'mmengine'))
    args.batch = args.batch or config.train_dataloader.batch_size
    args.image_size = args.image_size or pipeline_size(config)
    model = config.model
    if config.get('data_preprocessor'):
        model.setdefault('data_preprocessor', config.data_preprocessor)
    model.backbone.init_cfg = None  # nothing is loaded: it is about time
    return model


def pipeline_size(config: Config) -> tuple[int, int]:
    """(width, height) that the training pipeline resizes to."""
    dataset = config.train_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    scales = [step.scale for step in dataset.get('pipeline', []) if 'scale' in step]
    if not scales:
        raise SystemExit('the training pipeline has no one scale: give --image-size WIDTH HEIGHT')
    scale = scales[-1]
    return (scale, scale) if isinstance(scale, int) else tuple(scale)


def build(config: dict[str, Any], device: str) -> tuple[nn.Module, nn.Module]:
    """The plain and the GradAug model of a GradAug model's config, with the same weights."""
    MMLogger.get_current_instance().setLevel('WARNING')  # it lists every parameter's initialisation
    gradaug = MODELS.build(copy.deepcopy(config))
    config = {k: v for k, v in copy.deepcopy(config).items() if k not in ('gradaug', 'detector')}
    # The first class that knows nothing of GradAug is the one that the mixin stands before.
    stock = next(c for c in type(gradaug).__mro__ if not issubclass(c, GradAugMixin))
    plain = MODELS.build({**config, 'type': stock})
    plain.init_weights()
    gradaug.load_state_dict(plain.state_dict())
    # As Runner does on a single device.
    plain, gradaug = revert_sync_batchnorm(plain), revert_sync_batchnorm(gradaug)
    return plain.to(device).train(), gradaug.to(device).train()


def random_batch(model: nn.Module, args: argparse.Namespace, device: str) -> dict[str, Any]:
    """What a data loader would hand to the model."""
    size = tuple(reversed(args.image_size)) if args.config else (args.size, args.size)
    if isinstance(model, ImageClassifier):
        return dict(
            inputs=torch.randn(args.batch, 3, *size, device=device),
            data_samples=[DataSample().set_gt_label(i % 2) for i in range(args.batch)],
        )
    from detection_inputs import random_images  # needs MMDetection, which classifiers do not

    rng = np.random.default_rng(args.seed)
    return random_images(rng, args.batch, size, args.instances, args.polygons, device)


class Steps:
    """One training iteration after another of a plain or a GradAug model, which learns nothing."""

    def __init__(self, model: nn.Module, batch: dict[str, Any], seed: int) -> None:
        self.model = model
        self.seed = seed
        self.optim_wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9))
        self.batch = batch

    def __call__(self, iteration: int) -> None:
        torch.manual_seed(iteration)  # detectors sample anchors and proposals
        if isinstance(self.model, GradAugMixin):
            self.model.announce_iteration(self.seed, iteration, active=True)
        self.model.train_step(dict(self.batch), self.optim_wrapper)
        if torch.cuda.is_available():
            torch.cuda.synchronize()


def seconds(step: Callable[[int], None], iteration: int) -> float:
    start = time.perf_counter()
    step(iteration)
    return time.perf_counter() - start


def flops(step: Callable[[int], None], iteration: int) -> int:
    return measuring.flops(lambda: step(iteration))


def peak_bytes(step: Steps, iteration: int) -> int:
    """Most bytes of tensors alive at once in an iteration, what was there before it included."""
    before = measuring.held_tensors(step.model, step.optim_wrapper.optimizer)
    return measuring.peak_bytes(lambda: step(iteration), [*before, *step.batch['inputs']])


def measure_times(plain: Steps, gradaug: Steps, iterations: int) -> tuple[list[float], list[float]]:
    """Seconds of plain and of GradAug iterations, in turns."""
    for iteration in range(2):  # momentum buffers, allocator and kernels' set-up
        plain(iteration)
        gradaug(iteration)
    times: tuple[list[float], list[float]] = ([], [])
    for iteration in range(iterations):
        times[0].append(seconds(plain, iteration))
        times[1].append(seconds(gradaug, iteration))
        print(
            f'\riteration {iteration + 1}/{iterations}: plain {times[0][-1]:.2f} s, '
            f'GradAug {times[1][-1]:.2f} s',
            end='',
            flush=True,
        )
    print()
    return times


def measure(plain: Steps, gradaug: Steps, iterations: int, allowance: float) -> dict[str, Any]:
    """What the JSON file says besides the setting; the bound is ``allowance`` times the FLOPs ratio."""
    plain_seconds, gradaug_seconds = measure_times(plain, gradaug, iterations)
    plain_flops = flops(plain, 0)
    gradaug_flops = [flops(gradaug, iteration) for iteration in range(iterations)]
    plain_peak = peak_bytes(plain, 0)
    gradaug_peak = max(peak_bytes(gradaug, iteration) for iteration in range(3))
    gradients = sum(p.numel() * p.element_size() for p in gradaug.model.parameters())

    flops_ratio = statistics.mean(gradaug_flops) / plain_flops
    # Pair by pair, each by its own FLOPs, and the median: other programs slow single iterations.
    overhead = statistics.median(
        slow / fast / (count / plain_flops)
        for fast, slow, count in zip(plain_seconds, gradaug_seconds, gradaug_flops)
    )
    return dict(
        plain_seconds=plain_seconds,
        gradaug_seconds=gradaug_seconds,
        overhead=overhead,
        time_ratio=overhead * flops_ratio,
        plain_gflops=plain_flops / 1e9,
        gradaug_gflops=[value / 1e9 for value in gradaug_flops],
        flops_ratio=flops_ratio,
        time_bound=allowance * flops_ratio,
        plain_peak_mib=plain_peak / 2**20,
        gradaug_peak_mib=gradaug_peak / 2**20,
        gradients_mib=gradients / 2**20,
        peak_ratio=gradaug_peak / plain_peak,
        peak_bound=1.03 + gradients / plain_peak,
    )


def print_results(results: dict[str, Any]) -> None:
    print(f'{"":22}{"plain":>12}{"GradAug":>12}{"ratio":>9}{"bound":>9}')
    rows = [
        (
            'seconds (median)',
            statistics.median(results['plain_seconds']),
            statistics.median(results['gradaug_seconds']),
            '',
        ),
        (
            'GFLOPs (mean)',
            results['plain_gflops'],
            statistics.mean(results['gradaug_gflops']),
            '',
        ),
        (
            'peak memory (MiB)',
            results['plain_peak_mib'],
            results['gradaug_peak_mib'],
            f'{results["peak_bound"]:9.3f}',
        ),
    ]
    for name, one, other, bound in rows:
        print(f'{name:22}{one:12.2f}{other:12.2f}{other / one:9.3f}{bound}')
    print(
        f'time ratio {results["time_ratio"]:.3f}, at most {results["time_bound"]:.3f} wanted: '
        f'{results["overhead"]:.3f} times the ratio of FLOPs (median over the iterations, each by its own FLOPs)'
    )


def main(argv: Optional[Sequence[str]] = None) -> None:
    args = parse_args(argv)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    plain_model, gradaug_model = build(read_model(args), device)
    batch = random_batch(plain_model, args, device)
    plain, gradaug = Steps(plain_model, batch, args.seed), Steps(gradaug_model, batch, args.seed)
    allowance = 1.05 if isinstance(plain_model, ImageClassifier) else 1.1
    results = dict(
        setting={k: v for k, v in vars(args).items() if k != 'json' and v is not None},
        device=torch.cuda.get_device_name() if device == 'cuda' else 'cpu',
        torch=torch.__version__,
        **measure(plain, gradaug, args.iterations, allowance),
    )
    print_results(results)
    print(
        f'gradients themselves: {results["gradients_mib"]:.0f} MiB; threads: {args.threads}; {device}'
    )
    if args.json:
        with open(args.json, 'w') as file:
            json.dump(results, file, indent=2)


if __name__ == '__main__':
    main()
