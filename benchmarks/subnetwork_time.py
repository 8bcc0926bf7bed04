#!/usr/bin/env python
"""Where the time of a sub-network goes: beside a plain network built with as many channels.

Three networks take turns at forward and backward passes: the sub-network of width w, a plain one built
small (no slicing at all), and the full plain one. FLOPs fall with the square of the width; how far time
follows is a matter of the convolution kernels, which like whole multiples of 8 or 16 channels.

Example: python benchmarks/subnetwork_time.py --widths 0.9 0.875
"""

import argparse
import time

import measuring
import torch
import torch.nn.functional as F
from step_time import build, resnet
from torch import nn

from mmgradaug.slimming import extract_subnetwork, subnetwork


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--depth', type=int, default=50, help="ResNet's depth (default: 50)")
    parser.add_argument('--batch', type=int, default=8, help='images (default: 8)')
    parser.add_argument(
        '--sizes',
        type=int,
        nargs='+',
        default=[224, 160, 128],
        help='pixels (default: 224 160 128)',
    )
    parser.add_argument(
        '--widths', type=float, nargs='+', default=[0.9, 0.95], help='(default: 0.9 0.95)'
    )
    parser.add_argument('--repeats', type=int, default=7, help='the best counts (default: 7)')
    parser.add_argument('--threads', type=int, default=2, help='on the CPU (default: 2)')
    return parser.parse_args()


def forward_and_backward(model: nn.Module, images: torch.Tensor) -> None:
    model(images, mode='tensor').logsumexp(1).sum().backward()
    if images.is_cuda:
        torch.cuda.synchronize()


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    args.num_subnets, args.min_width = 1, min(args.widths)
    plain, model = build(resnet(args), device)
    print(
        f'ResNet-{args.depth}, batch {args.batch}, {args.threads} threads, {device}; best of {args.repeats}'
    )
    print(
        f'{"width":>6}{"pixels":>8}{"sub s":>9}{"small s":>9}{"full s":>9}'
        f'{"sub/small":>11}{"small/full":>12}{"FLOPs":>8}'
    )
    for width in args.widths:
        small = extract_subnetwork(model, width)
        for size in args.sizes:
            images = F.interpolate(torch.randn(args.batch, 3, 224, 224), (size, size)).to(device)
            best = dict(sub=float('inf'), small=float('inf'), full=float('inf'))
            for _ in range(args.repeats):
                for name, network in (('sub', model), ('small', small), ('full', plain)):
                    start = time.perf_counter()
                    if name == 'sub':
                        with subnetwork(network, width):
                            forward_and_backward(network, images)
                    else:
                        forward_and_backward(network, images)
                    best[name] = min(best[name], time.perf_counter() - start)
            flops = [
                measuring.flops(lambda n=network, x=images: forward_and_backward(n, x))
                for network in (small, plain)
            ]
            print(
                f'{width:6.3f}{size:8}{best["sub"]:9.3f}{best["small"]:9.3f}{best["full"]:9.3f}'
                f'{best["sub"] / best["small"]:11.3f}{best["small"] / best["full"]:12.3f}'
                f'{flops[0] / flops[1]:8.3f}',
                flush=True,
            )


if __name__ == '__main__':
    main()
