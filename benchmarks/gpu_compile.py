"""Whether torch.compile goes with GradAug: recompilations, equality, time."""

import statistics
import time
from typing import Any

import measuring
import numpy as np
import torch
import torch.nn.functional as F
from gpu_networks import Network, for_equality
from torch._dynamo.utils import counters

from mmgradaug import GradAug, Identity
from mmgradaug.slimming import AtWidth, Width

WIDTHS = (0.8, 0.9, 1.0)


class ThreeWidths(Width):
    """A width out of WIDTHS, each as likely."""

    def draw(self, rng: np.random.Generator, number: int) -> list[AtWidth]:
        return [AtWidth(float(width)) for width in rng.choice(WIDTHS, number)]


def trained(network: Network, device: str, batch: int) -> tuple[GradAug, Any]:
    model = network.build(device)
    images, labels = (each.to(device) for each in network.batch(batch))
    gradaug = GradAug(model, 3, WIDTHS[0], Identity(), example_input=images)
    gradaug.sampler.axes = [ThreeWidths(WIDTHS[0])]
    return gradaug, (images, labels)


def iterate(gradaug: GradAug, data: Any, iteration: int) -> dict[str, torch.Tensor]:
    gradaug.network.zero_grad()
    gradaug.backward(*data, F.cross_entropy, iteration=iteration)
    return {name: p.grad for name, p in gradaug.network.named_parameters() if p.grad is not None}


def distance(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> float:
    difference = sum((found[k] - wanted[k]).double().square().sum() for k in wanted)
    return float((difference / sum(v.double().square().sum() for v in wanted.values())).sqrt())


def compiled_step(
    network: Network, device: str, batch: int, backend: str, report: Any
) -> dict[str, Any]:
    torch._dynamo.reset()
    counters.clear()
    gradaug, data = trained(network, device, batch)
    eager = [iterate(gradaug, data, i) for i in range(2)]
    gradaug.network.compile(backend=backend, dynamic=False)
    start = time.monotonic()
    differences = [distance(iterate(gradaug, data, i), eager[i]) for i in range(2)]
    for iteration in range(2, 6):  # by now each width has come
        iterate(gradaug, data, iteration)
    took = time.monotonic() - start
    graphs = counters['stats']['unique_graphs']
    for iteration in range(6, 12):
        iterate(gradaug, data, iteration)
    found = dict(
        float32=max(differences),
        graphs=graphs,  # 1 for the full network and 3 for the widths, where no graph breaks
        graphs_later=counters['stats']['unique_graphs'] - graphs,
        breaks=sum(counters['graph_break'].values()),
        compile_seconds=took,
    )
    ok = max(differences) < 1e-3 and not found['graphs_later']
    if backend == 'inductor':
        found.update(compare_times(gradaug, data, device, report))
    return dict(found, ok=ok)


def compare_times(gradaug: GradAug, data: Any, device: str, report: Any) -> dict[str, Any]:
    """Compiled and not, in turns, once the other parts leave the device alone."""
    quiet = report.file.with_name('quiet')
    while not quiet.exists() and report.left > 8:
        time.sleep(0.5)
    times: dict[str, list[float]] = dict(compiled=[], eager=[])
    model = gradaug.network
    compiled = model._compiled_call_impl
    for iteration in range(12):
        for name in times:
            model._compiled_call_impl = compiled if name == 'compiled' else None
            taken = measuring.milliseconds(lambda i=iteration: iterate(gradaug, data, i), device)
            times[name].append(taken)
    eager, faster = (statistics.median(times[name][2:]) for name in ('eager', 'compiled'))
    return dict(eager_ms=eager, compiled_ms=faster, alone=quiet.exists())


def main(report: Any, device: str, tiny: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.set_num_threads(1 if tiny else 4)
    networks = for_equality(tiny)
    for name, backend in (('ResNet-18', 'eager'), ('ResNet-18', 'inductor'), ('ViT-B/16', 'eager')):
        batch = 64 if backend == 'inductor' and not tiny else 4
        report.check(
            f'{name}, {backend}', compiled_step, networks[name], device, batch, backend, report
        )
