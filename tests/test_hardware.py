"""What a training costs and how it goes with memory formats, precisions and compilers; tiny models on the CPU."""

import copy
import gc
import statistics
import time
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch.utils.flop_counter import FlopCounterMode

from mmgradaug import GradAug, Identity, RandomResize

RESIZE = RandomResize([12, 10])


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x):
        return x + self.conv2(F.relu(self.norm(self.conv1(x))))


def network():
    torch.manual_seed(0)
    stem = nn.Conv2d(3, 16, 3, padding=1, bias=False)
    return nn.Sequential(
        *(stem, nn.BatchNorm2d(16), nn.ReLU(), Block(16)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5)),
    )


def batch(seed=0):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(8, 3, 12, 12, generator=rng), torch.randint(5, (8,), generator=rng)


def iterations(model, number=1, options=None, dtype=None, **settings):
    """Gradients, added up over some iterations."""
    gradaug = GradAug(model, transforms=RESIZE, **{'min_width': 0.6, **settings})
    for i in range(number):
        images, targets = batch(i)
        images = images.to(next(model.parameters()).dtype).to(**(options or {}))
        with torch.autocast('cpu', torch.bfloat16, enabled=dtype is not None):
            gradaug.backward(images, targets, F.cross_entropy)
    return {name: value.grad for name, value in model.named_parameters()}


def test_channels_last_in_all_passes():
    """The format stays through full network and sub-networks, and results with it."""
    plain, last = network().double(), network().double().to(memory_format=torch.channels_last)
    formats = []
    last[3].conv2.register_forward_hook(
        lambda _module, _inputs, output: formats.append(
            (output.shape[1] > 1, output.is_contiguous(memory_format=torch.channels_last))
        )
    )
    settings = dict(number=2, batch_fraction=0.5, width_divisor=4)
    found = iterations(last, options=dict(memory_format=torch.channels_last), **settings)
    for name, value in iterations(plain, **settings).items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-12, msg=name)
    assert formats[-8:] == [(True, True)] * 8


def test_autocast_with_channels_last_is_near_the_full_precision():
    last = network().to(memory_format=torch.channels_last)
    options = dict(memory_format=torch.channels_last)
    half, full = iterations(last, 2, options, 'bfloat16'), iterations(network(), 2)
    distance, size = (
        sum((half[k].float() - shift * full[k]).square().sum() for k in full) for shift in (1, 0)
    )
    assert 0 < distance < 0.01 * size and {v.dtype for v in half.values()} == {torch.float32}


def test_a_grid_of_widths_bounds_how_often_a_compiler_runs():
    """3 widths at 2 sizes and the full network: 7 programs at most, and none after the first iterations."""
    torch._dynamo.reset()
    model, counter, counts = network(), CompileCounter(), []
    gradaug = GradAug(model, 2, transforms=RESIZE, widths=[0.5, 0.75, 1.0])
    reference = copy.deepcopy(model)
    eager = GradAug(reference, 2, transforms=RESIZE, widths=[0.5, 0.75, 1.0])
    model.compile(backend=counter)
    for i in range(12):
        losses, expected = (each.backward(*batch(i), F.cross_entropy) for each in (gradaug, eager))
        torch.testing.assert_close(losses, expected)
        counts.append(counter.frame_count)
    assert 1 < counts[-1] <= 7 and counts[5:] == [counts[-1]] * 7
    for (name, value), other in zip(model.named_parameters(), reference.parameters()):
        torch.testing.assert_close(value.grad, other.grad, msg=name)
    torch._dynamo.reset()


@pytest.mark.parametrize('settings', [dict(), dict(every=2), dict(batch_fraction=0.5)], ids=str)
def test_cost_grows_by_the_same_for_each_subnetwork(settings):
    """At full width and size each is the network once more, at a part of the batch that part."""
    flops = []
    for number in range(4):
        model = network()
        gradaug = GradAug(model, number, 1.0, Identity(), **settings)
        with FlopCounterMode(display=False) as counter:
            for i in range(2):
                gradaug.backward(*batch(i), F.cross_entropy)
        flops.append(counter.get_total_flops())
    share = 0.5 if settings else 1.0
    assert flops == [flops[0] * (1 + share * number) for number in range(4)]


def test_many_iterations_of_random_widths_and_sizes_grow_neither_memory_nor_time():
    model = nn.Sequential(nn.Conv2d(3, 64, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model.append(nn.Linear(64, 5))
    gradaug = GradAug(model, 1, 0.2, RandomResize(list(range(4, 13))))
    images, targets = batch()
    seconds, objects = [], []
    for i in range(2000):
        start = time.process_time()
        gradaug.backward(images, targets, F.cross_entropy)
        seconds.append(time.process_time() - start)
        model.zero_grad()
        if i in (200, 1999):
            gc.collect()
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')
                tensors = sum(isinstance(each, torch.Tensor) for each in gc.get_objects())
            objects.append((tensors, len(gc.get_objects())))
    (tensors, all_objects), (tensors_after, all_after) = objects
    assert tensors_after <= tensors and all_after < all_objects + 500
    early, late = statistics.median(seconds[100:400]), statistics.median(seconds[-300:])
    assert late < 1.5 * early
