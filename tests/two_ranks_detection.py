"""What each of two gloo processes runs in tests/test_models/test_detectors/test_gradaug_mask_rcnn.py."""

import copy

import torch
from detection import build, random_batch, tiny_config
from helpers import sgd
from two_ranks_proofs import count_reductions

from mmgradaug.engine import GradAugDistributedDataParallel

SETTINGS = dict(
    ground_truth=dict(),
    soft_labels=dict(subnets_learn='soft_labels'),
    all_soft_labels=dict(
        subnets_learn='soft_labels', soft_label_parts=['classification', 'boxes', 'masks']
    ),
)


def data(rank, iteration):
    return random_batch(seed=10 * iteration + rank, polygons=True, dtype=torch.float64)


def train(rank, gradaug, iterations=2):
    """State after some steps, and how many reductions each iteration took. One batch a rank."""
    model = build(tiny_config('MaskRCNN', gradaug), torch.float64)
    ddp = GradAugDistributedDataParallel(model, device_ids=[rank], bucket_cap_mb=100)
    counted = []
    count_reductions(ddp, counted)
    wrapper = sgd(ddp, lr=0.01)
    reductions, logs = [], []
    for iteration in range(iterations):
        before = len(counted)
        model.announce_iteration(0, iteration, active=True)
        torch.manual_seed(100 * iteration + rank)
        logs.append(ddp.train_step(data(rank, iteration), wrapper))
        reductions.append(len(counted) - before)
    return dict(state=copy.deepcopy(model.state_dict()), reductions=reductions, logs=logs)


def find(rank):
    found = {name: train(rank, gradaug) for name, gradaug in SETTINGS.items()}
    model = build(tiny_config('MaskRCNN', SETTINGS['soft_labels']))
    try:
        GradAugDistributedDataParallel(model, find_unused_parameters=False)
    except ValueError as error:
        found['refusal'] = str(error)
    return found
