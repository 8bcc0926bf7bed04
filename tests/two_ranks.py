"""What each of two gloo processes runs in tests/test_engine/test_gradaug_distributed.py."""

import copy
import logging
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
from two_ranks_proofs import CASES, DDP_OPTIONS, SyncBatchNormOnCPU, count_reductions, prove

from mmgradaug.engine import GradAugDistributedDataParallel, GradAugHook, NonFiniteHook
from mmgradaug.engine.non_finite import NonFiniteError
from mmgradaug.slimming import subnetwork


def train_model(
    rank,
    model,
    batch=lambda iteration, rank: random_batch(seed=10 * iteration + rank),
    announce=announce_iteration,
    wrapper_type=GradAugDistributedDataParallel,
    **ddp_options,
):
    """State after three steps, and how many reductions each iteration took. One batch a rank."""
    ddp = wrapper_type(model, **{'device_ids': [rank], **ddp_options})
    counted = []
    count_reductions(ddp, counted)
    wrapper = sgd(ddp, lr=0.1, momentum=0.9)
    reductions, logs = [], []
    for iteration in range(3):
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
        train_dataloader=SimpleNamespace(batch_sampler=None),
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


def one_rank_not_finite(rank):
    """What the hook says, and whether weights moved, where rank 1 alone has an image of NaN."""
    _, model = stock_and_gradaug(gradaug_config())
    ddp = GradAugDistributedDataParallel(model)
    wrapper = sgd(ddp)
    runner = SimpleNamespace(model=ddp, optim_wrapper=wrapper, iter=0, work_dir='the work dir')
    hook = NonFiniteHook()
    hook.before_train(runner)
    announce_iteration(model, 0)
    batch = random_batch(seed=rank)
    if rank == 1:
        batch['inputs'][0] = float('nan')
    before = copy.deepcopy(dict(model.named_parameters()))
    try:
        ddp.train_step(batch, wrapper)
    except NonFiniteError as error:
        moved = any(not torch.equal(p, before[name]) for name, p in model.named_parameters())
        return dict(says=str(error), moved=moved)


def find(rank):
    one_bucket = dict(bucket_cap_mb=100)
    return dict(
        plain=train_model(rank, stock_and_gradaug(gradaug_config())[1], **one_bucket),
        semi=train_model(rank, stock_and_semi()[1], batch=semi_batch, **one_bucket),
        mean_teacher=mean_teacher(rank, **one_bucket),
        hook=what_the_hook_says(rank),
        sync_bn=sync_bn_subnetwork(rank),
        not_finite=one_rank_not_finite(rank),
        proofs={str(case): prove(case, rank) for case in CASES},
        options={key: prove(CASES[-1], rank, **DDP_OPTIONS[key]) for key in DDP_OPTIONS},
    )
