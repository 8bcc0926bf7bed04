"""docs/networks.md says what happens: every network of its tables is planned, narrowed and trained."""

import importlib.util
import re
import warnings

import networks
import pytest

ROWS = {
    line.split(' | ')[0][2:]: line
    for line in networks.PAGE.read_text().splitlines()
    if line.startswith('| ') and not line.startswith('| network')
}
NAMES = [
    pytest.param(section, name, id=f'{section}-{name}')
    for section, (_, _, names) in networks.SECTIONS.items()
    for name in names
    if section != 'timm'
]


@pytest.mark.parametrize(('section', 'name'), NAMES)
def test_the_page_says_what_happens(section, name):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        result = networks.try_network(networks.SECTIONS[section][1], name)
    assert networks.row(name, result) == ROWS[name]


@pytest.mark.skipif(importlib.util.find_spec('timm') is None, reason='timm is not installed')
@pytest.mark.parametrize('name', networks.TIMM)
def test_timm(name):
    assert 'error' not in networks.try_network(networks.timm_network, name)


def test_every_backbone_of_mmpretrain_is_in_the_table_and_most_train():
    from mmpretrain.models import backbones

    assert set(networks.MMPRETRAIN) == set(backbones.__all__)
    trained = [name for name in networks.MMPRETRAIN if '| trains |' in ROWS[name]]
    assert len(trained) >= 54
    assert sum('| trains |' in ROWS[name] for name in networks.MMDET) >= 19
    assert all('| trains |' in ROWS[name] for name in networks.TORCHVISION)
    # What is refused is refused with the layer and the operation, or what is missing.
    for name, line in ROWS.items():
        if '| refused |' in line and name != 'TIMMBackbone':
            assert re.search(r"'[\w.]+'|no channels that could be narrowed|operator", line), line
