"""The first part of gpu_checks.py: what a GPU computes is what the CPU computes, and what it should be."""

import copy
import functools
import tempfile
from contextlib import nullcontext
from typing import Any, Optional

import torch
import torch.distributed as dist
import torch.nn.functional as F
from gpu_networks import Network, for_equality
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mmgradaug import GradAug, Identity, RandomResize, plan_channels, subnetwork
from mmgradaug.subnets import SubnetSampler

Gradients = dict[str, Tensor]
ITERATION = 3


def gradaug_of(model: nn.Module, network: Network, images: Tensor) -> GradAug:
    return GradAug(model, transforms=transforms_of(network), seed=5, example_input=images)


def transforms_of(network: Network) -> Any:
    return RandomResize(list(network.sizes)) if network.sizes else Identity()


@functools.cache
def planned(network: Network) -> tuple[GradAug, dict[str, Tensor]]:
    """A network that is planned once, since that takes seconds, and its initial weights."""
    model = network.build()
    gradaug = gradaug_of(model, network, network.batch(2)[0])
    return gradaug, copy.deepcopy(model.state_dict())


def prepared(
    network: Network,
    device: str,
    dtype: torch.dtype,
    memory_format: torch.memory_format = torch.contiguous_format,
    num_subnets: int = 3,
    survival_prob: float = 1.0,
) -> GradAug:
    """With initial weights, on a device, and with other draws."""
    gradaug, weights = planned(network)
    # Moved in place: it stays the model that was planned.
    model = gradaug.network.to(device, dtype).to(memory_format=memory_format)
    model.load_state_dict(weights)
    model.zero_grad()
    gradaug.sampler = SubnetSampler(
        num_subnets, 0.6, transforms_of(network), survival_prob=survival_prob
    )
    gradaug.sampler.bind(model)
    return gradaug


def gradients_of(model: nn.Module) -> Gradients:
    """On the CPU, in double precision; gradients of what had none are zero."""
    return {
        name: (torch.zeros_like(p) if p.grad is None else p.grad).detach().cpu().double()
        for name, p in model.named_parameters()
    }


def distance(found: Gradients, wanted: Gradients) -> float:
    """Norm of the difference, all parameters together, relative to the norm of what is wanted."""
    difference = sum((found[name] - wanted[name]).square().sum() for name in wanted)
    return float((difference / sum(value.square().sum() for value in wanted.values())).sqrt())


def step(
    network: Network,
    device: str,
    dtype: torch.dtype = torch.float32,
    *,
    memory_format: torch.memory_format = torch.contiguous_format,
    autocast: Optional[torch.dtype] = None,
    scaler: bool = False,
    batch: int = 4,
    **settings: Any,
) -> tuple[Gradients, dict[str, Any], Gradients]:
    """Gradients of one GradAug iteration, its values for the log, and running statistics after it."""
    gradaug = prepared(network, device, dtype, memory_format, **settings)
    model = gradaug.network
    images, labels = network.batch(batch)
    images = images.to(device, dtype).contiguous(memory_format=memory_format)
    scale = torch.amp.GradScaler(device, init_scale=1024.0, enabled=scaler)
    precision = torch.autocast(device, autocast) if autocast else nullcontext()
    with precision:
        values = gradaug.backward(
            images,
            labels.to(device),
            F.cross_entropy,
            backward=lambda loss: scale.scale(loss).backward(),
            iteration=ITERATION,
        )
    if scaler:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        scale.unscale_(optimizer)
    statistics = {k: v.detach().cpu().double() for k, v in model.named_buffers() if 'running' in k}
    return gradients_of(model), values, statistics


def naive_step(
    network: Network, device: str, dtype: torch.dtype, batch: int = 4, **settings: Any
) -> Gradients:
    """The same iteration, written out: each pass's gradients by themselves, and then their sum."""
    gradaug = prepared(network, device, dtype, **settings)
    model = gradaug.network
    images, labels = (each.to(device) for each in network.batch(batch))
    images = images.to(dtype)
    names, parameters = zip(*model.named_parameters())
    logits = model(images)
    sums = list(torch.autograd.grad(F.cross_entropy(logits, labels), parameters))
    probabilities = logits.detach().softmax(1)
    for subnet in gradaug.sampler.sample(5, ITERATION):
        with subnet.enter(model):
            outputs = model(subnet.transform(images)).log_softmax(1)
            divergence = (probabilities * (probabilities.log() - outputs)).sum() / len(images)
            parts = torch.autograd.grad(divergence, parameters, allow_unused=True)
        sums = [a if b is None else a + b for a, b in zip(sums, parts)]
    return {name: each.cpu().double() for name, each in zip(names, sums)}


def same_on_both(network: Network, device: str, **settings: Any) -> dict[str, Any]:
    """Gradients in double and single precision against the CPU's in double precision."""
    wanted, values, wanted_statistics = step(network, 'cpu', torch.float64, **settings)
    double, double_values, statistics = step(network, device, torch.float64, **settings)
    single = distance(step(network, device, torch.float32, **settings)[0], wanted)
    single_cpu = distance(step(network, 'cpu', torch.float32, **settings)[0], wanted)
    naive = distance(double, naive_step(network, device, torch.float64, **settings))
    moved = distance(statistics, wanted_statistics) if statistics else 0.0
    loss = abs(float(double_values['loss']) / float(values['loss']) - 1)
    found = dict(
        float64=distance(double, wanted),
        float32=single,
        float32_cpu=single_cpu,
        naive=naive,
        statistics=moved,
        loss=loss,
    )
    exact = max(found['float64'], naive, moved, loss) < 1e-9
    return dict(found, ok=exact and single < 10 * single_cpu + 1e-5)


def same_draws(network: Network, device: str) -> dict[str, Any]:
    draws = []
    for each in ('cpu', device):
        sampler = prepared(network, each, torch.float32, survival_prob=0.7).sampler
        draws.append([sampler.sample(1, iteration) for iteration in range(100)])
    return dict(ok=draws[0] == draws[1], draws=300)


def same_plans(network: Network, device: str) -> dict[str, Any]:
    images, _ = network.batch(2)
    plans = [plan_channels(network.build(each), images) for each in ('cpu', device)]
    widths = [width / 20 for width in range(1, 21)]
    numbers = [[plan.kept(width).numbers for width in widths] for plan in plans]
    keys = [list(plan.selections) for plan in plans]
    return dict(ok=numbers[0] == numbers[1] and keys[0] == keys[1], runs=len(plans[0].runs))


def plan_without_weights(network: Network) -> dict[str, Any]:
    """Of a network on the meta device, where tensors have shapes alone."""
    found, wanted = (plan_channels(network.build().to(each)) for each in ('meta', 'cpu'))
    same = all(found.kept(w).numbers == wanted.kept(w).numbers for w in (0.3, 0.55, 0.9))
    return dict(ok=same, runs=len(found.runs))


def shared_memory(network: Network, device: str) -> dict[str, Any]:
    model = prepared(network, device, torch.float32).network
    full = {name: p for name, p in model.named_parameters()}
    allocated = torch.cuda.memory_allocated() if device == 'cuda' else 0
    narrow, shared, copied = 0, 0, 0
    with subnetwork(model, 0.7):
        for name, view in model.named_parameters():
            narrow += view.numel() < full[name].numel()
            same = view.untyped_storage().data_ptr() == full[name].untyped_storage().data_ptr()
            shared, copied = shared + same, copied + (not same)
        extra = torch.cuda.memory_allocated() - allocated if device == 'cuda' else 0
    # Buffers (running statistics) are small and may be copied.
    return dict(ok=copied == 0 and narrow > 0, narrow=narrow, shared=shared, extra_bytes=extra)


def channels_last(network: Network, device: str) -> dict[str, Any]:
    """Every convolution's output is channels-last in every pass, and gradients stay the same."""
    kept: list[bool] = []

    def look(module: nn.Module, inputs: Any, output: Tensor) -> None:
        if isinstance(module, nn.Conv2d) and output.shape[1] > 1 and output.shape[-1] > 1:
            kept.append(output.is_contiguous(memory_format=torch.channels_last))

    plain = step(network, device)[0]
    handle = nn.modules.module.register_module_forward_hook(look)
    try:
        found = step(network, device, memory_format=torch.channels_last)[0]
    finally:
        handle.remove()
    difference = distance(found, plain)
    return dict(ok=all(kept) and difference < 1e-3, float32=difference, outputs=len(kept))


def mixed_precision(network: Network, device: str, dtype: torch.dtype) -> dict[str, Any]:
    """Against single precision: the direction of the gradient, which rounding changes a little."""
    wanted, values, _ = step(network, device, batch=32)
    found, mixed, _ = step(network, device, autocast=dtype, scaler=dtype == torch.float16, batch=32)
    first, second = (torch.cat([v.reshape(-1) for v in each.values()]) for each in (found, wanted))
    cosine = float(F.cosine_similarity(first, second, dim=0))
    loss = abs(float(mixed['loss']) / float(values['loss']) - 1)
    finite = bool(first.isfinite().all())
    return dict(ok=finite and cosine > 0.9 and loss < 0.05, cosine=cosine, loss=loss)


def one_exchange(network: Network, device: str) -> dict[str, Any]:
    """DistributedDataParallel in a group of one: as many exchanges as a plain iteration, the same gradients."""
    wanted = step(network, device, torch.float64)[0]
    with tempfile.TemporaryDirectory() as folder:
        backend = 'nccl' if device == 'cuda' else 'gloo'
        dist.init_process_group(backend, init_method=f'file://{folder}/group', rank=0, world_size=1)
        try:
            model = network.build().to(device, torch.float64)
            wrapped = DistributedDataParallel(model)
            exchanges: list[int] = []

            def exchange(state: Any, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
                exchanges.append(bucket.buffer().numel())
                reduced = dist.all_reduce(bucket.buffer(), async_op=True).get_future()
                return reduced.then(lambda future: future.value()[0])

            wrapped.register_comm_hook(None, exchange)
            images, labels = (each.to(device) for each in network.batch(4))
            images = images.double()
            gradaug = gradaug_of(wrapped, network, images)
            gradaug.sampler = prepared(network, 'cpu', torch.float64).sampler
            numbers = []
            for iteration in (0, 1, ITERATION):  # buckets are laid out anew after the first
                exchanges.clear()
                model.zero_grad()
                gradaug.backward(images, labels, F.cross_entropy, iteration=iteration)
                numbers.append(sum(exchanges))
            found = gradients_of(model)
        finally:
            dist.destroy_process_group()
    difference = distance(found, wanted)
    once = sum(p.numel() for p in model.parameters())
    # Batch norms' statistics are those of three iterations, which training does not use.
    return dict(ok=difference < 1e-9 and numbers == [once] * 3, float64=difference)


def main(report: Any, device: str, tiny: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.set_num_threads(1 if tiny else 6)
    networks = for_equality(tiny)
    smallest = networks['ResNet-18']
    middle = networks.get('ResNet-50', smallest)
    for number in (0, 1):
        report.check(f'ResNet-18, n={number}', same_on_both, smallest, device, num_subnets=number)
    for name, network in networks.items():
        report.check(f'{name}, n=3', same_on_both, network, device)
        report.check(f'{name}, width and depth', same_on_both, network, device, survival_prob=0.6)
    report.check('draws', same_draws, smallest, device)
    for name in ('ResNet-18', 'Swin-T', 'ViT-B/16'):
        report.check(f'plan of {name}', same_plans, networks[name], device)
    report.check('plan on the meta device', plan_without_weights, middle)
    report.check('views share memory', shared_memory, middle, device)
    for name in ('ResNet-18', 'ConvNeXt-T'):
        report.check(f'channels_last, {name}', channels_last, networks[name], device)
    for dtype in (torch.bfloat16, torch.float16):
        name = str(dtype).split('.')[1]
        report.check(f'autocast {name}', mixed_precision, smallest, device, dtype)
        report.check(f'autocast {name}, Swin-T', mixed_precision, networks['Swin-T'], device, dtype)
    report.check('one exchange under DDP', one_exchange, smallest, device)
