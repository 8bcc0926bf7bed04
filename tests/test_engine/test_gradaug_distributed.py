"""Two gloo processes against the same computation in one."""

import pytest
import torch
from command_line import run_two_ranks
from helpers import (
    announce_iteration,
    announce_teacher,
    gradaug_config,
    naive_gradaug_loss,
    narrow,
    preprocess,
    random_batch,
    semi_batch,
    sgd,
    stock_and_gradaug,
    stock_and_semi,
    student_and_teacher,
)


@pytest.fixture(scope='module')
def ranks(tmp_path_factory):
    return run_two_ranks('two_ranks.py', tmp_path_factory.mktemp('ranks'))


def naive_training(iterations=3, accumulative_counts=1, num_subnets=3):
    """Eq. 4 on each rank's batch with a stock network, gradients averaged by hand."""
    stock, model = stock_and_gradaug(gradaug_config(num_subnets=num_subnets))
    optimizer = torch.optim.SGD(stock.parameters(), lr=0.1, momentum=0.9)
    remainder = iterations % accumulative_counts
    for iteration in range(iterations):
        subnets = model.subnet_sampler.sample(0, iteration)
        window = accumulative_counts if iteration < iterations - remainder else remainder
        for rank in range(2):
            batch = preprocess(stock, random_batch(seed=10 * iteration + rank))
            loss = naive_gradaug_loss(stock, dict(stock.named_parameters()), batch, subnets)
            (loss / 2 / window).backward()
        if (iteration + 1) % accumulative_counts == 0 or iteration == iterations - 1:
            optimizer.step()
            optimizer.zero_grad()
    return dict(stock.named_parameters())


@pytest.mark.parametrize(
    ('run', 'naive'),
    [
        ('plain', {}),
        ('broadcast', {}),
        ('small_buckets', {}),
        ('find_unused', {}),
        ('bucket_view', {}),
        ('no_subnets', dict(num_subnets=0)),
        ('accumulated', dict(iterations=5, accumulative_counts=2)),
    ],
)
def test_ranks_agree_and_equal_the_mean_of_their_gradients(ranks, run, naive):
    expected = naive_training(**naive)
    for name, value in expected.items():
        one, other = (rank[run]['state'][name] for rank in ranks)
        assert torch.equal(one, other), name
        torch.testing.assert_close(one, value.detach(), rtol=0, atol=1e-10, msg=name)


def test_one_reduction_of_each_bucket_an_iteration(ranks):
    for rank in ranks:
        assert rank['plain']['reductions'] == [1, 1, 1]
        assert rank['no_subnets']['reductions'] == [1, 1, 1]
        # Only where the optimizer steps; the last window is a remainder.
        assert rank['accumulated']['reductions'] == [0, 1, 0, 1, 1]
        # DDP regroups its buckets after the first iteration; each is reduced once.
        assert rank['small_buckets']['reductions'][1] > 3
        assert len(set(rank['small_buckets']['reductions'][1:])) == 1


def equal_to_one_process(ranks, run, model, batch, announce=announce_iteration):
    """One process that accumulates the mean over both ranks' batches."""
    wrapper = sgd(model, lr=0.1, momentum=0.9, accumulative_counts=2)
    wrapper.initialize_count_status(model, 0, 6)
    for iteration in range(3):
        for rank in range(2):
            announce(model, iteration)
            model.train_step(batch(iteration, rank), wrapper)
    for name, value in model.named_parameters():
        one, other = (rank[run]['state'][name] for rank in ranks)
        assert torch.equal(one, other), name
        torch.testing.assert_close(one, value.detach(), rtol=0, atol=1e-10, msg=name)
    assert all(rank[run]['reductions'] == [1, 1, 1] for rank in ranks)


def test_subnetworks_by_depth_leave_parameters_unused_and_ranks_agree_all_the_same(ranks):
    _, model = stock_and_gradaug(gradaug_config(min_width=0.8, survival_prob=0.2))
    last = [model.subnet_sampler.sample(0, i)[-1].dropped_blocks for i in range(3)]
    assert all(last) and len(set(last)) == 3  # unused in the very pass that exchanges gradients
    equal_to_one_process(ranks, 'depth', model, lambda i, rank: random_batch(seed=10 * i + rank))


def test_gradaug_semi_with_unequal_numbers_of_unlabelled_images(ranks):
    unlabelled = [
        [
            sum('gt_label' not in sample for sample in semi_batch(i, rank)['data_samples'])
            for i in range(3)
        ]
        for rank in range(2)
    ]
    assert unlabelled == [[4, 4, 4], [3, 0, 5]]
    equal_to_one_process(ranks, 'semi', stock_and_semi()[1], semi_batch)


def test_mean_teacher_with_unequal_numbers_of_unlabelled_images(ranks):
    student, teacher = student_and_teacher()
    equal_to_one_process(
        ranks, 'mean_teacher', student, semi_batch, announce=announce_teacher(teacher)
    )
    consistency = [log.get('loss_consistency') for log in ranks[1]['mean_teacher']['logs']]
    assert consistency[1] is None and min(consistency[0], consistency[2]) > 1e-4


def test_ranks_draw_the_same_subnetworks(ranks):
    widths = [
        [log[f'width_subnet{i}'] for log in r['plain']['logs'] for i in range(3)] for r in ranks
    ]
    assert widths[0] == widths[1] and len(set(widths[0])) == 7


def test_sync_bn_in_a_subnetwork_is_batch_norm_over_the_batches_of_both_ranks(ranks):
    """Against a stock network of sliced weights and plain batch norms, on the joined batch."""
    stock, _ = stock_and_gradaug(gradaug_config())
    images = torch.cat([random_batch(size=3 + rank, seed=rank)['inputs'] for rank in range(2)])
    params = dict(stock.named_parameters())
    weights = narrow({**params, **{n: b.clone() for n, b in stock.named_buffers()}}, 0.7)
    keep = []
    stock.neck.register_forward_hook(lambda module, args, out: keep.append(out[-1]))
    torch.func.functional_call(stock, weights, (images,), dict(mode='tensor'))
    (expected,) = keep
    expected.square().sum().backward()
    found = [rank['sync_bn'] for rank in ranks]
    out = torch.cat([one['out'] for one in found])
    torch.testing.assert_close(out, expected.detach(), rtol=0, atol=1e-10)
    for name, value in stock.backbone.named_parameters():
        for one in found:
            torch.testing.assert_close(
                one['gradients'][name], value.grad, rtol=0, atol=1e-9, msg=name
            )
    for name, value in stock.named_buffers():
        assert torch.equal(found[0]['statistics'][name], value), name
    assert found[0]['types'] == {'SyncBatchNorm'}


def test_sync_bn_without_gpus_is_refused(ranks):
    assert 'without GPUs leave sync_bn out' in ranks[0]['sync_bn']['refusal']


def test_ranks_of_different_seeds_draw_by_that_of_the_first(ranks):
    """With randomness=dict(diff_rank_seed=True) rank 1 has seed 6; what it would draw differs."""
    sampler = stock_and_gradaug(gradaug_config())[1].subnet_sampler
    assert [rank['hook']['seed'] for rank in ranks] == [5, 5]
    assert sampler.sample(5, 0) != sampler.sample(6, 0)


def test_find_unused_parameters_in_the_wrong_place_is_refused(ranks):
    assert "model_wrapper_cfg = dict(type='mmgradaug." in ranks[0]['hook']['refusal']
