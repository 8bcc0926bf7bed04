"""What each of two gloo processes runs in tests/test_engine/test_two_ranks_equal_one.py.

``python two_ranks_proofs.py RANK FOLDER``: writes the weights to FOLDER/rank{RANK}.pth.
"""

import itertools
import sys

import torch
import torch.distributed as dist
from helpers import announce_iteration, gradaug_config, random_batch, sgd, stock_and_gradaug

from mmgradaug.engine import GradAugDistributedDataParallel

ITERATIONS = 5  # no multiple of 2 or 3: the last window is smaller
# (sub-networks, accumulation, (clipping at a norm that bites, survival probability of the last block))
CASES = list(itertools.product([0, 1, 3], [1, 2, 3], [(None, 1.0), (0.05, 0.5)]))


def train(subnets, accumulate, clip_and_survival, rank=None):
    """Weights after some updates: of the whole batches, or of a rank's halves of them."""
    clip, survival = clip_and_survival
    transforms = dict(type='RandomResize', sizes=[16, 12])
    gradaug = gradaug_config(num_subnets=subnets, survival_prob=survival, transforms=transforms)
    _, model = stock_and_gradaug(gradaug)
    # Batch norms by their running statistics: what an image does is its own affair, so the halves add up.
    model.eval()
    run = model if rank is None else GradAugDistributedDataParallel(model)
    options = {} if clip is None else dict(clip_grad=dict(max_norm=clip))
    wrapper = sgd(run, lr=0.1, momentum=0.9, accumulative_counts=accumulate, **options)
    wrapper.initialize_count_status(run, 0, ITERATIONS)
    for iteration in range(ITERATIONS):
        batch = random_batch(size=4, seed=iteration, pixels=16)
        if rank is not None:
            batch = dict(
                inputs=batch['inputs'][rank::2], data_samples=batch['data_samples'][rank::2]
            )
        announce_iteration(model, iteration)
        run.train_step(batch, wrapper)
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def main(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{folder}/group', rank=rank, world_size=2)
    torch.save({str(case): train(*case, rank=rank) for case in CASES}, f'{folder}/rank{rank}.pth')
    dist.destroy_process_group()


if __name__ == '__main__':
    main(int(sys.argv[1]), sys.argv[2])
