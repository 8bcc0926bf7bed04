#!/usr/bin/env python
"""Time, FLOPs and peak memory of a GradAug iteration beside a plain one, in one run.

Plain and GradAug iterations take turns, so a machine that slows down slows both. The bound is 1.05 times
the ratio of the FLOPs that PyTorch's counter finds in the drawn iterations: what GradAug must cost, and
5% for all the rest. (FLOPs here are PyTorch's: a multiply-add counts two.) Where the rest goes shows
benchmarks/subnetwork_time.py.

Example: python benchmarks/step_time.py --json step_time.json
"""

import argparse
import copy
import json
import os
import statistics
import time
from typing import Any, Callable

# The profiler says a lot on the C++ side; it reads these when it is loaded.
os.environ.setdefault('KINETO_LOG_LEVEL', '99')
os.environ.setdefault('TORCH_CPP_LOG_LEVEL', 'ERROR')

import torch
from mmengine.optim import OptimWrapper
from mmpretrain.models import ImageClassifier
from mmpretrain.structures import DataSample
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from mmgradaug.models import GradAugClassifier


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--depth', type=int, default=50, help="ResNet's depth (default: 50)")
    parser.add_argument('--size', type=int, default=224, help='pixels (default: 224)')
    parser.add_argument('--batch', type=int, default=8, help='images (default: 8)')
    parser.add_argument('--num-subnets', type=int, default=3, help='n (default: 3)')
    parser.add_argument('--min-width', type=float, default=0.9, help='alpha (default: 0.9)')
    parser.add_argument(
        '--sizes',
        type=int,
        nargs='+',
        default=[224, 192, 160, 128],
        help='of the random scale (default: 224 192 160 128)',
    )
    parser.add_argument('--iterations', type=int, default=12, help='measured (default: 12)')
    parser.add_argument('--threads', type=int, default=2, help='on the CPU (default: 2)')
    parser.add_argument('--seed', type=int, default=0, help='of the draws (default: 0)')
    parser.add_argument('--json', metavar='FILE', help='write the results to this file')
    return parser.parse_args()


def build(args: argparse.Namespace, device: str) -> tuple[nn.Module, nn.Module]:
    config: dict[str, Any] = dict(
        backbone=dict(type='mmpretrain.ResNet', depth=args.depth),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(
            type='mmpretrain.LinearClsHead',
            num_classes=1000,
            in_channels=2048 if args.depth >= 50 else 512,
        ),
        data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor', num_classes=1000),
    )
    gradaug = dict(
        num_subnets=args.num_subnets,
        min_width=args.min_width,
        transforms=dict(type='RandomResize', sizes=args.sizes),
    )
    plain = ImageClassifier(**copy.deepcopy(config)).to(device).train()
    return plain, GradAugClassifier(gradaug=gradaug, **config).to(device).train()


class Steps:
    """One training iteration after another of a plain or a GradAug model."""

    def __init__(self, model: nn.Module, args: argparse.Namespace, device: str) -> None:
        self.model = model
        self.seed = args.seed
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
        self.optim_wrapper = OptimWrapper(optimizer)
        self.batch = dict(
            inputs=torch.randn(args.batch, 3, args.size, args.size, device=device),
            data_samples=[DataSample().set_gt_label(i) for i in range(args.batch)],
        )

    def __call__(self, iteration: int) -> None:
        if isinstance(self.model, GradAugClassifier):
            self.model.announce_iteration(self.seed, iteration, active=True)
        self.model.train_step(dict(self.batch), self.optim_wrapper)
        if torch.cuda.is_available():
            torch.cuda.synchronize()


def seconds(step: Callable[[int], None], iteration: int) -> float:
    start = time.perf_counter()
    step(iteration)
    return time.perf_counter() - start


def flops(step: Callable[[int], None], iteration: int) -> int:
    with FlopCounterMode(display=False) as counter:
        step(iteration)
    return counter.get_total_flops()


def peak_bytes(step: Steps, iteration: int) -> int:
    """Most bytes of tensors alive at once in an iteration, what was there before it included."""
    tensors = [*step.model.parameters(), *step.model.buffers(), step.batch['inputs']]
    for state in step.optim_wrapper.optimizer.state.values():
        tensors += [value for value in state.values() if isinstance(value, torch.Tensor)]
    before = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        others = torch.cuda.memory_allocated() - before  # the other model is there too
        step(iteration)
        return torch.cuda.max_memory_allocated() - others
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step(iteration)
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == '[memory]']
    alive, peak = 0, 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        alive += event.nbytes()
        peak = max(peak, alive)
    return before + peak


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    plain_model, gradaug_model = build(args, device)
    plain, gradaug = Steps(plain_model, args, device), Steps(gradaug_model, args, device)
    for iteration in range(2):  # momentum buffers, allocator and kernels' set-up
        plain(iteration)
        gradaug(iteration)

    times: dict[str, list[float]] = dict(plain=[], gradaug=[])
    for iteration in range(args.iterations):
        times['plain'].append(seconds(plain, iteration))
        times['gradaug'].append(seconds(gradaug, iteration))
        print(
            f'\riteration {iteration + 1}/{args.iterations}: plain {times["plain"][-1]:.2f} s, '
            f'GradAug {times["gradaug"][-1]:.2f} s',
            end='',
            flush=True,
        )
    print()
    plain_flops = flops(plain, 0)
    gradaug_flops = [flops(gradaug, iteration) for iteration in range(args.iterations)]
    plain_peak = peak_bytes(plain, 0)
    gradaug_peak = max(peak_bytes(gradaug, iteration) for iteration in range(3))
    gradients = sum(p.numel() * p.element_size() for p in gradaug_model.parameters())

    flops_ratio = statistics.mean(gradaug_flops) / plain_flops
    # Pair by pair, each by its own FLOPs, and the median: other programs slow single iterations.
    overhead = statistics.median(
        slow / fast / (count / plain_flops)
        for fast, slow, count in zip(times['plain'], times['gradaug'], gradaug_flops)
    )
    time_ratio = overhead * flops_ratio
    results = dict(
        setting={key: value for key, value in vars(args).items() if key != 'json'},
        device=torch.cuda.get_device_name() if device == 'cuda' else 'cpu',
        torch=torch.__version__,
        plain_seconds=times['plain'],
        gradaug_seconds=times['gradaug'],
        overhead=overhead,
        time_ratio=time_ratio,
        plain_gflops=plain_flops / 1e9,
        gradaug_gflops=[value / 1e9 for value in gradaug_flops],
        flops_ratio=flops_ratio,
        time_bound=1.05 * flops_ratio,
        plain_peak_mib=plain_peak / 2**20,
        gradaug_peak_mib=gradaug_peak / 2**20,
        gradients_mib=gradients / 2**20,
        peak_ratio=gradaug_peak / plain_peak,
        peak_bound=1.03 + gradients / plain_peak,
    )
    print(f'{"":22}{"plain":>12}{"GradAug":>12}{"ratio":>9}{"bound":>9}')
    rows = [
        ('seconds (median)', *(statistics.median(times[name]) for name in ('plain', 'gradaug'))),
        ('GFLOPs (mean)', plain_flops / 1e9, statistics.mean(gradaug_flops) / 1e9),
        ('peak memory (MiB)', plain_peak / 2**20, gradaug_peak / 2**20),
    ]
    bounds = [None, None, results['peak_bound']]
    for (name, one, other), bound in zip(rows, bounds):
        limit = '' if bound is None else f'{bound:9.3f}'
        print(f'{name:22}{one:12.2f}{other:12.2f}{other / one:9.3f}{limit}')
    print(
        f'time ratio {time_ratio:.3f}, at most {results["time_bound"]:.3f} wanted: {overhead:.3f} times the ratio of '
        'FLOPs (median over the iterations, each by its own FLOPs)'
    )
    print(f'gradients themselves: {gradients / 2**20:.0f} MiB; threads: {args.threads}; {device}')
    if args.json:
        with open(args.json, 'w') as file:
            json.dump(results, file, indent=2)


if __name__ == '__main__':
    main()
