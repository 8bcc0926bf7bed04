"""Time and memory of GradAug iterations beside plain ones, and of entering sub-networks."""

import functools
import inspect
import statistics
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Callable

import measuring
import torch
import torch.nn.functional as F
from gpu_networks import Network, for_speed
from torch import Tensor

from mmgradaug import GradAug, RandomResize, subnetwork
from mmgradaug.subnets import SubnetSampler

# What is measured besides plain training. The paper's setting first: n = 3, alpha = 0.8.
SETTINGS: dict[str, dict[str, Any]] = {
    'n=3': dict(num_subnets=3),
    'n=1': dict(num_subnets=1),
    'n=3, widths of 8': dict(num_subnets=3, width_divisor=8),
    'n=3, 3 widths': dict(num_subnets=3, widths=[0.8, 0.9, 1.0]),
}
PRECISIONS = ('bf16', 'fp32', 'tf32')


class Training:
    """Iterations of plain training and of GradAug on one network, which learns nothing (rate 0).

    Args:
        network: which.
        device: 'cpu' or 'cuda'.
        batch: images.
    """

    def __init__(self, network: Network, device: str, batch: int) -> None:
        self.model = network.build(device)
        self.images, self.labels = (each.to(device) for each in network.batch(batch))
        self.device = device
        self.transforms = RandomResize(list(network.sizes))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.0, momentum=0.9)
        # Made once, since planning takes seconds; the ways to train differ in what they draw.
        self.gradaug = GradAug(self.model, 3, 0.8, self.transforms)
        self.samplers: dict[str, SubnetSampler] = {}
        self.precision: Callable[[], AbstractContextManager] = nullcontext

    def add(self, name: str, **settings: Any) -> None:
        """A way to train by GradAug; one that this version does not know is left out."""
        if settings.keys() <= inspect.signature(SubnetSampler).parameters.keys():
            min_width = {} if 'widths' in settings else dict(min_width=0.8)
            sampler = SubnetSampler(transforms=self.transforms, **min_width, **settings)
            sampler.bind(self.model)
            self.samplers[name] = sampler

    def set_precision(self, precision: str) -> None:
        tf32 = precision == 'tf32'
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        bf16 = precision == 'bf16'
        layout = torch.channels_last if bf16 else torch.contiguous_format
        self.model.to(memory_format=layout)
        self.images = self.images.contiguous(memory_format=layout)
        self.precision = (
            functools.partial(torch.autocast, self.device, torch.bfloat16) if bf16 else nullcontext
        )

    def step(self, name: str, iteration: int) -> None:
        if name == 'plain':
            with self.precision():
                loss = F.cross_entropy(self.model(self.images), self.labels)
            loss.backward()
        else:
            self.gradaug.sampler = self.samplers[name]
            with self.precision():
                self.gradaug.backward(
                    self.images, self.labels, F.cross_entropy, iteration=iteration
                )
        self.optimizer.step()
        self.optimizer.zero_grad()

    def milliseconds(self, name: str, iteration: int) -> float:
        return measuring.milliseconds(lambda: self.step(name, iteration), self.device)

    def flops(self, name: str, iteration: int) -> int:
        return measuring.flops(lambda: self.step(name, iteration))

    def peak_bytes(self, name: str, iteration: int) -> int:
        before: list[Tensor] = measuring.held_tensors(self.model, self.optimizer)
        return measuring.peak_bytes(
            lambda: self.step(name, iteration), [*before, self.images, self.labels]
        )


def measure_times(
    training: Training, repetitions: int, seconds: float
) -> dict[str, dict[str, list[float]]]:
    """Milliseconds of iterations that take turns.

    Each GradAug iteration runs twice in succession: ``first`` is what training has, whose shapes seldom come
    again; in ``again`` all kernels have been chosen before.
    """
    names = ['plain', *training.samplers]
    for iteration in (100_000, 100_001):
        for name in names:
            training.step(name, iteration)
    times: dict[str, dict[str, list[float]]] = {n: dict(first=[], again=[]) for n in names}
    end = time.monotonic() + seconds
    for iteration in range(repetitions):
        for name in names:
            for which in ('first', 'again'):
                times[name][which].append(training.milliseconds(name, iteration))
        if time.monotonic() > end:
            break
    return times


def speed_of(
    report: Any, name: str, network: Network, device: str, batch: int, precisions: Any, tiny: bool
) -> Training:
    """A row for each precision and way to train."""
    training = Training(network, device, batch)
    for setting, options in SETTINGS.items():
        try:
            training.add(setting, **options)
        except Exception as error:
            report.add(check=f'{name}, {setting}', ok=False, why=str(error)[:200])
    counted: dict[tuple[str, int], int] = {}
    for precision in precisions:
        if report.left <= 5:
            report.add(check=f'{name}, {precision}', ok=None, why='out of time')
            continue
        training.set_precision(precision)
        times = measure_times(training, 3 if tiny else 10, min(6.0, report.left / 3))
        plain = statistics.median(times['plain']['first'] + times['plain']['again'])
        plain_peak = training.peak_bytes('plain', 0)
        if not counted:  # the same in each precision
            counted['plain', 0] = training.flops('plain', 0)
        for setting, found in times.items():
            first, again = (measuring.summary(found[which]) for which in ('first', 'again'))
            row = dict(
                check=f'{name} {precision}, batch {batch}, {setting}',
                ms=first['median'],
                low=first['low'],
                high=first['high'],
                ms_again=again['median'],
                images_s=1000 * batch / first['median'],
                raw=found,
            )
            if setting == 'plain':
                report.add(**row, peak_mib=plain_peak / 2**20)
                continue
            draws = range(min(len(found['first']), 4 if tiny else 10))
            for draw in draws:
                if (setting, draw) not in counted:
                    counted[setting, draw] = training.flops(setting, draw)
            flops = statistics.mean(counted[setting, i] for i in draws) / counted['plain', 0]
            peak = max(training.peak_bytes(setting, i) for i in range(2)) / plain_peak
            report.add(
                **row,
                ratio=first['median'] / plain,
                ratio_again=again['median'] / plain,
                flops_ratio=flops,
                peak_ratio=peak,
            )
    return training


def memory_of(training: Training, numbers: Any) -> dict[str, Any]:
    """Peak memory for n sub-networks beside plain training; the paper has 1.025 with n = 3."""
    training.set_precision('tf32')
    training.samplers.clear()
    for number in numbers:
        training.add(f'n={number}', num_subnets=number)
    peaks = {}
    for name in ('plain', *training.samplers):
        training.step(name, 0)  # momentum buffers and what libraries allocate once
        peaks[name] = max(training.peak_bytes(name, i) for i in (0, 1))
    ratios = {name: peak / peaks['plain'] for name, peak in peaks.items() if name != 'plain'}
    gradients = sum(p.numel() * p.element_size() for p in training.model.parameters())
    # Gradients outlive a pass: the next adds to them. Plain training drops activations as they come.
    bound = 1.025
    return dict(
        ok=max(ratios.values()) <= bound if training.device == 'cuda' else None,
        plain_mib=peaks['plain'] / 2**20,
        gradients_mib=gradients / 2**20,
        **ratios,
    )


def main(report: Any, device: str, tiny: bool) -> None:
    torch.set_num_threads(1 if tiny else 8)
    networks = for_speed(tiny)
    batch = 2 if tiny else 64
    training = speed_of(report, 'ResNet-50', networks['ResNet-50'], device, batch, PRECISIONS, tiny)
    report.check('peak memory, ResNet-50', memory_of, training, (1, 3) if tiny else range(1, 9))
    del training
    for name, network in networks.items():
        if name != 'ResNet-50':
            if device == 'cuda':
                torch.cuda.empty_cache()
            precisions = PRECISIONS[:2] if name == 'WRN-28-10' else PRECISIONS[:1]
            speed_of(report, name, network, device, batch, precisions, tiny)


def entering(report: Any, device: str, tiny: bool) -> None:
    """What sub-networks cost the CPU, whatever the batch."""
    torch.set_num_threads(1)
    network = for_speed(tiny)['ResNet-50']
    training = Training(network, device, 2)
    training.add('n=3', num_subnets=3)
    report.check('entering and leaving, new widths', enter, training, 20 if tiny else 200)
    report.check('entering and leaving, one width', enter, training, 20 if tiny else 200, 0.9)
    report.check('drawing and logging', draw, training, 20 if tiny else 200)
    training.images = training.images[..., :32, :32].contiguous()
    training.samplers['n=3'].transform = RandomResize([32])
    report.check('launching alone (batch 2, 32 px)', launch, training, 3 if tiny else 20)


def enter(training: Training, repetitions: int, width: Any = None) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    times = []
    for _ in range(repetitions):
        chosen = width or 0.8 + 0.2 * float(torch.rand((), generator=generator))
        start = time.perf_counter()
        with subnetwork(training.model, chosen):
            pass
        times.append(1000 * (time.perf_counter() - start))
    found = measuring.summary(times)
    parameters = sum(1 for _ in training.model.parameters())
    return dict(ms=found['median'], low=found['low'], high=found['high'], parameters=parameters)


def draw(training: Training, repetitions: int) -> dict[str, Any]:
    sampler = training.samplers['n=3']
    times = []
    for iteration in range(repetitions):
        start = time.perf_counter()
        for subnet in sampler.sample(0, iteration):
            subnet.log_values(training.model)
        times.append(1000 * (time.perf_counter() - start))
    return dict(ms_an_iteration=statistics.median(times))


def launch(training: Training, repetitions: int) -> dict[str, Any]:
    """So small that the time is that of Python and of starting kernels: a pass of GradAug beside a plain one."""
    times: dict[str, list[float]] = {'plain': [], 'n=3': []}
    for iteration in range(-2, repetitions):
        for name in times:
            for again in range(2):
                value = training.milliseconds(name, abs(iteration))
                if iteration >= 0 and again:
                    times[name].append(value)
    plain, gradaug = (statistics.median(times[name]) for name in ('plain', 'n=3'))
    return dict(plain_ms=plain, gradaug_ms=gradaug, pass_ratio=gradaug / plain / 4)
