"""Trainings that two ranks on halves of the batches, and one process on whole ones, do alike.

For tests/two_ranks.py, whose processes run them, and tests/test_engine/test_gradaug_distributed.py.
"""

import copy
import functools
import itertools

import torch
from helpers import announce_iteration, gradaug_config, random_batch, sgd, stock_and_gradaug
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.distributed.nn.functional import all_reduce

from mmgradaug.engine import GradAugDistributedDataParallel
from mmgradaug.subnets import RandomResize, SubnetSampler

NORMS = ('none over the batch', 'batch norm', 'synchronised batch norm')
# (sub-networks, of random depth), accumulation, the norm to which gradients are clipped (it bites), norms.
CASES = list(
    itertools.product(
        [(0, False), (1, False), (1, True), (3, False), (3, True)], [1, 2, 3], [None, 0.05], NORMS
    )
)


class SyncBatchNormOnCPU(torch.nn.SyncBatchNorm):
    """What PyTorch's does, whose kernels have no CPU form; differentiable through the statistics."""

    def forward(self, x):
        dims, view = (0, 2, 3), (1, -1, 1, 1)
        *total, count = all_reduce(torch.cat([x.sum(dims), x.new_tensor([x.numel() / x.shape[1]])]))
        mean = torch.stack(total) / count
        centred = x - mean.view(view)
        var = all_reduce(centred.square().sum(dims)) / count
        if self.track_running_stats:
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean.detach(), self.momentum)
            self.running_var.lerp_(var.detach() * count / (count - 1), self.momentum)
        out = centred / (var.view(view) + self.eps).sqrt()
        return out * self.weight.view(view) + self.bias.view(view)


@functools.cache
def network(batch_norm):
    """A classifier of eight layers, whose sub-networks are given it afterwards."""
    backbone = dict(
        type='mmgradaug.SlimmableResNetCIFAR', depth=8, base_channels=8, stem_channels=8,
        zero_init_residual=False, norm_cfg=dict(type='BN') if batch_norm else dict(type='GN', num_groups=2),
    )  # fmt: skip
    head = dict(
        type='mmpretrain.LinearClsHead', num_classes=5, in_channels=32,
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
    )  # fmt: skip
    return stock_and_gradaug(gradaug_config(), backbone=backbone, head=head)[1]


def sampler_of(case):
    (subnets, by_depth), _, _, norms = case
    survival = 0.3 if by_depth else 1.0
    sampler = SubnetSampler(subnets, 0.6, RandomResize([8, 6]), survival_prob=survival)
    sampler.bind(network(norms != NORMS[0]))
    return sampler


# Of DDP, for the last case.
DDP_OPTIONS = dict(
    broadcast=dict(broadcast_buffers=True),
    bucket_view=dict(gradient_as_bucket_view=True),
    find_unused=dict(find_unused_parameters=True),
    small_buckets=dict(bucket_cap_mb=0.01),
)


def count_reductions(ddp, counted):
    def hook(group, bucket):
        counted.append(bucket.index())
        return allreduce_hook(group, bucket)

    ddp.register_comm_hook(None, hook)


def prove(case, rank=None, **ddp_options):
    """Weights after some updates by the whole batches, or by a rank's halves of them.

    Where each rank has statistics of its own half, one process takes the halves one after the other.

    Returns:
        The weights by name; and how many exchanges of gradients each iteration took.
    """
    _, accumulate, clip, norms = case
    model = copy.deepcopy(network(norms != NORMS[0]))
    model.subnet_sampler = sampler_of(case)
    in_turn = rank is None and norms == 'batch norm'
    run, counted = model, []
    if rank is not None:
        run = GradAugDistributedDataParallel(model, **ddp_options)
        count_reductions(run, counted)
    if rank is not None and norms == 'synchronised batch norm':
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.__class__ = SyncBatchNormOnCPU
    # The last window of accumulation is smaller.
    iterations, parts = accumulate + 1, 1 + in_turn
    clip_grad = None if clip is None else dict(max_norm=clip)
    wrapper = sgd(run, 0.1, 0.9, accumulative_counts=accumulate * parts, clip_grad=clip_grad)
    wrapper.initialize_count_status(run, 0, iterations * parts)
    exchanges = []
    for iteration in range(iterations):
        counted.clear()
        batch = random_batch(size=4, seed=iteration, pixels=8)
        halves = [{key: value[half::2] for key, value in batch.items()} for half in range(2)]
        for part in halves if in_turn else [batch if rank is None else halves[rank]]:
            announce_iteration(model, iteration)
            run.train_step(part, wrapper)
        exchanges.append(len(counted))
    weights = {name: value.detach().clone() for name, value in model.named_parameters()}
    return weights, exchanges
