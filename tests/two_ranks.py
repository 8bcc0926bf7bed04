"""What each of two gloo processes runs in tests/test_engine/test_gradaug_distributed.py.

``python two_ranks.py RANK FOLDER``: writes its findings to FOLDER/rank{RANK}.pth.
"""

import copy
import logging
import sys
from types import SimpleNamespace

import torch
import torch.distributed as dist
from helpers import (
    announce_iteration,
    announce_teacher,
    gradaug_config,
    random_batch,
    semi_batch,
    sgd,
    stock_and_gradaug,
    stock_and_semi,
    student_and_teacher,
)
from mmengine.model import MMDistributedDataParallel, convert_sync_batchnorm
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.distributed.nn.functional import all_reduce

from mmgradaug.engine import GradAugDistributedDataParallel, GradAugHook
from mmgradaug.slimming import subnetwork


def count_reductions(ddp, counted):
    def hook(group, bucket):
        counted.append(bucket.index())
        return allreduce_hook(group, bucket)

    ddp.register_comm_hook(None, hook)


def train(rank, gradaug, **options):
    return train_model(rank, stock_and_gradaug(gradaug)[1], **options)


def train_model(
    rank,
    model,
    iterations=3,
    accumulative_counts=1,
    batch=lambda iteration, rank: random_batch(seed=10 * iteration + rank),
    announce=announce_iteration,
    wrapper_type=GradAugDistributedDataParallel,
    **ddp_options,
):
    """State after some steps, and how many reductions each iteration took. One batch a rank."""
    ddp = wrapper_type(model, **{'device_ids': [rank], **ddp_options})
    counted = []
    count_reductions(ddp, counted)
    wrapper = sgd(ddp, lr=0.1, momentum=0.9, accumulative_counts=accumulative_counts)
    wrapper.initialize_count_status(ddp, 0, iterations)
    reductions, logs = [], []
    for iteration in range(iterations):
        before = len(counted)
        announce(model, iteration)
        logs.append(ddp.train_step(batch(iteration, rank), wrapper))
        reductions.append(len(counted) - before)
    return dict(state=copy.deepcopy(model.state_dict()), reductions=reductions, logs=logs)


def mean_teacher(rank, **options):
    """By the wrapper that MMEngine takes where a config names none, as those of Mean Teacher."""
    student, teacher = student_and_teacher()
    return train_model(
        rank,
        student,
        batch=semi_batch,
        announce=announce_teacher(teacher),
        wrapper_type=MMDistributedDataParallel,
        device_ids=None,
        **options,
    )


class SyncBatchNormOnCPU(torch.nn.SyncBatchNorm):
    """What PyTorch's does, whose kernels have no CPU form; differentiable through the statistics."""

    def forward(self, x):
        dims, view = (0, 2, 3), (1, -1, 1, 1)
        count = all_reduce(x.new_tensor(x.numel() / x.shape[1]))
        mean = all_reduce(x.sum(dims)) / count
        centred = x - mean.view(view)
        var = all_reduce(centred.square().sum(dims)) / count
        if self.track_running_stats:
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean.detach(), self.momentum)
            self.running_var.lerp_(var.detach() * count / (count - 1), self.momentum)
        out = centred / (var.view(view) + self.eps).sqrt()
        return out * self.weight.view(view) + self.bias.view(view)


def sync_bn_subnetwork(rank):
    """One sub-network's pass with synchronised batch norms: output, and gradients summed over ranks."""
    _, model = stock_and_gradaug(gradaug_config())
    model = convert_sync_batchnorm(model)  # what Runner.wrap_model does
    try:
        GradAugDistributedDataParallel(model, device_ids=[rank])
    except ValueError as error:
        refusal = str(error)
    types = {type(m).__name__ for m in model.modules() if 'BatchNorm' in type(m).__name__}
    for module in model.modules():
        if isinstance(module, torch.nn.SyncBatchNorm):
            module.__class__ = SyncBatchNormOnCPU
    # Ranks with batches of different size.
    images = random_batch(size=3 + rank, seed=rank)['inputs']
    with subnetwork(model, 0.7):
        out = model.extract_feat(images)[-1]
        out.square().sum().backward()
    gradients = {}
    for name, value in model.backbone.named_parameters():
        dist.all_reduce(value.grad)
        gradients[name] = value.grad
    statistics = dict(model.named_buffers())
    return dict(
        out=out.detach(), gradients=gradients, types=types, refusal=refusal, statistics=statistics
    )


def what_the_hook_says(rank):
    """What GradAugHook draws by, if each rank has its own seed, and what it refuses."""
    _, model = stock_and_gradaug(gradaug_config())
    ddp = GradAugDistributedDataParallel(model)
    hook = GradAugHook()
    runner = SimpleNamespace(
        cfg=dict(),
        model=ddp,
        optim_wrapper=sgd(ddp),
        train_loop=None,
        seed=5 + rank,
        logger=logging.getLogger(),
    )
    hook.before_train(runner)
    seed = hook._seed
    runner.cfg = dict(
        find_unused_parameters=True
    )  # MMEngine does not read it beside a wrapper's config
    try:
        hook.before_train(runner)
    except ValueError as error:
        return dict(seed=seed, refusal=str(error))


def main(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{folder}/group', rank=rank, world_size=2)
    one_bucket = dict(bucket_cap_mb=100)
    found = dict(
        plain=train(rank, gradaug_config(), **one_bucket),
        accumulated=train(
            rank, gradaug_config(), iterations=5, accumulative_counts=2, **one_bucket
        ),
        broadcast=train(rank, gradaug_config(), broadcast_buffers=True),
        no_subnets=train(rank, gradaug_config(num_subnets=0), **one_bucket),
        find_unused=train(rank, gradaug_config(), find_unused_parameters=True),
        bucket_view=train(rank, gradaug_config(), gradient_as_bucket_view=True),
        small_buckets=train(rank, gradaug_config(), bucket_cap_mb=0.05),
        depth=train(rank, gradaug_config(min_width=0.8, survival_prob=0.2), **one_bucket),
        semi=train_model(rank, stock_and_semi()[1], batch=semi_batch, **one_bucket),
        mean_teacher=mean_teacher(rank, **one_bucket),
        hook=what_the_hook_says(rank),
        sync_bn=sync_bn_subnetwork(rank),
    )
    torch.save(found, f'{folder}/rank{rank}.pth')
    dist.destroy_process_group()


if __name__ == '__main__':
    main(int(sys.argv[1]), sys.argv[2])
