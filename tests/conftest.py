"""Makes tests/helpers.py importable (pytest puts a conftest's folder on the path), and calms threads."""

import pytest
import torch


@pytest.fixture(autouse=True, scope='session')
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
