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
from two_ranks_proofs import CASES, DDP_OPTIONS, prove, sampler_of


@pytest.fixture(scope='module')
def ranks(tmp_path_factory):
    return run_two_ranks('two_ranks', tmp_path_factory.mktemp('ranks'))


def test_ranks_agree_and_equal_the_mean_of_their_gradients(ranks):
    """Eq. 4 on each rank's batch with a stock network, gradients averaged by hand."""
    stock, model = stock_and_gradaug(gradaug_config())
    optimizer = torch.optim.SGD(stock.parameters(), lr=0.1, momentum=0.9)
    for iteration in range(3):
        subnets = model.subnet_sampler.sample(0, iteration)
        for rank in range(2):
            batch = preprocess(stock, random_batch(seed=10 * iteration + rank))
            loss = naive_gradaug_loss(stock, dict(stock.named_parameters()), batch, subnets)
            (loss / 2).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert_same([rank['plain']['state'] for rank in ranks], dict(stock.named_parameters()))
    assert [rank['plain']['reductions'] for rank in ranks] == [[1, 1, 1]] * 2


def test_what_is_not_finite_on_one_rank_stops_both_before_the_update(ranks):
    for found in (rank['not_finite'] for rank in ranks):
        assert 'Rank 1:' in found['says'] and 'the full network' in found['says']
        assert not found['moved']


def assert_same(ranks, expected):
    for name, value in expected.items():
        one, other = (rank[name] for rank in ranks)
        assert torch.equal(one, other), name
        torch.testing.assert_close(one, value.detach(), rtol=0, atol=1e-10, msg=name)


@pytest.mark.parametrize('case', CASES, ids=str)
def test_two_ranks_on_half_batches_equal_one_process_on_the_whole(case, ranks):
    """Sub-networks of random depth x accumulation with a remainder x clipping x norms."""
    found = [rank['proofs'][str(case)] for rank in ranks]
    assert_same([weights for weights, _ in found], prove(case)[0])
    accumulate = case[1]
    # Gradients are exchanged where the optimizer steps, once; the last window is a remainder.
    expected = [0] * (accumulate - 1) + [1, 1]
    assert found[0][1] == found[1][1] == expected


def test_each_setting_of_these_cases_does_something(ranks):
    proofs = ranks[0]['proofs'].values()
    weights = {proof[0]['head.fc.weight'].numpy().tobytes() for proof in proofs}
    assert len(weights) == len(CASES) == 90


def test_options_of_ddp_change_nothing(ranks):
    expected = prove(CASES[-1])[0]
    for option in DDP_OPTIONS:
        assert_same([rank['options'][option][0] for rank in ranks], expected)
    # DDP regroups its buckets after the first iteration; each is reduced once.
    assert ranks[0]['options']['small_buckets'][1][-1] > 3


def equal_to_one_process(ranks, run, model, batch, announce=announce_iteration):
    """One process that accumulates the mean over both ranks' batches."""
    wrapper = sgd(model, lr=0.1, momentum=0.9, accumulative_counts=2)
    wrapper.initialize_count_status(model, 0, 6)
    for iteration in range(3):
        for rank in range(2):
            announce(model, iteration)
            model.train_step(batch(iteration, rank), wrapper)
    assert_same([rank[run]['state'] for rank in ranks], dict(model.named_parameters()))
    assert all(rank[run]['reductions'] == [1, 1, 1] for rank in ranks)


def test_subnetworks_by_depth_leave_parameters_unused_in_the_pass_that_exchanges(ranks):
    """So the cases with random depth are those in which DDP could wait for ever."""
    sampler = sampler_of(CASES[-1])
    assert all(sampler.sample(0, i)[-1].dropped_blocks for i in range(4))


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
    sampler = sampler_of(CASES[-1])
    assert [rank['hook']['seed'] for rank in ranks] == [5, 5]
    assert sampler.sample(5, 0) != sampler.sample(6, 0)


def test_find_unused_parameters_in_the_wrong_place_is_refused(ranks):
    assert "model_wrapper_cfg = dict(type='mmgradaug." in ranks[0]['hook']['refusal']
