"""docs/networks.md says what happens: every network of its tables is planned and narrowed.

Training them all takes a quarter of an hour: that is ``python tests/networks.py``, which writes the page.
"""

import importlib.util
import re
import warnings

import networks
import pytest

TITLES = {title: key for key, (title, _, _) in networks.SECTIONS.items()}


def rows():
    """The lines of the page's tables, by section and network."""
    found, section = {}, None
    for line in networks.PAGE.read_text().splitlines():
        if line.startswith('## '):
            section = TITLES[line[3:]]
        elif line.startswith('| ') and not line.startswith('| network'):
            found[section, line.split(' | ')[0][2:]] = line
    return found


ROWS = rows()
NAMES = [
    pytest.param(section, name, id=f'{section}-{name}')
    for section, (_, _, names) in networks.SECTIONS.items()
    for name in names
    if section != 'timm'
]


HAS_TIMM = importlib.util.find_spec('timm') is not None


@pytest.mark.parametrize(('section', 'name'), NAMES)
def test_the_page_says_what_happens(section, name):
    if name == 'TIMMBackbone' and not HAS_TIMM:
        pytest.skip('timm is not installed')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        result = networks.try_network(networks.SECTIONS[section][1], name, train=False)
    assert networks.row(name, result) == ROWS[section, name]


@pytest.mark.skipif(not HAS_TIMM, reason='timm is not installed')
@pytest.mark.parametrize('name', networks.TIMM)
def test_timm(name):
    assert 'error' not in networks.try_network(networks.timm_network, name)


def test_every_backbone_of_mmpretrain_is_in_the_table_and_most_train():
    from mmpretrain.models import backbones

    assert set(networks.MMPRETRAIN) == set(backbones.__all__)
    trained = {key for key, line in ROWS.items() if '| trains |' in line}
    assert sum(section == 'mmpretrain' for section, _ in trained) >= 54
    assert sum(section == 'mmdet' for section, _ in trained) >= 19
    assert {('torchvision', name) for name in networks.TORCHVISION} <= trained
    # What is refused is refused with the layer and the operation, or what is missing.
    for key in set(ROWS) - trained:
        assert re.search(r"'[\w.]+'|no channels that could be narrowed|operator", ROWS[key]), key
