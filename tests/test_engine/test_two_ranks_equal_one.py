"""Two ranks on halves of the batches end where one process on the whole batches does."""

import pytest
import torch
from command_line import run_two_ranks
from two_ranks_proofs import CASES, train


@pytest.fixture(scope='module')
def ranks(tmp_path_factory):
    return run_two_ranks('two_ranks_proofs.py', tmp_path_factory.mktemp('ranks'))


@pytest.mark.parametrize('case', CASES, ids=str)
def test_two_ranks_equal_one_process(case, ranks):
    """With a remainder of the accumulation, clipping and random depth."""
    whole = train(*case)
    for rank in ranks:
        for name, value in whole.items():
            torch.testing.assert_close(rank[str(case)][name], value, rtol=0, atol=1e-9, msg=name)


def test_the_cases_differ(ranks):
    """So each of the settings does something."""
    weights = [ranks[0][str(case)]['head.fc.weight'] for case in CASES]
    for i, one in enumerate(weights):
        assert not any(torch.equal(one, other) for other in weights[:i])
