"""Probes of saved networks see what the networks compute, and train what they say."""

import copy
import json
import sys

import numpy as np
import pytest
import torch
from command_line import ROOT

sys.path.append(str(ROOT / 'benchmarks'))

import economy_search  # noqa: E402  found by the line above
import representation  # noqa: E402


@pytest.fixture(scope='module')
def digits():
    images = economy_search.load_images('digits', None)
    return representation.Images(
        images.train, images.train_labels, images.test[:40], images.test_labels[:40]
    )


@pytest.fixture
def saved(tmp_path):
    """A folder of one network, and the network."""
    torch.manual_seed(3)
    model = economy_search.WideResNet(16, 2, 3, 10)
    job = economy_search.Job('cifar10', 1000, True, 'n=1 every 2nd', 4, 500)
    file = economy_search.weights_file(tmp_path / 'weights', job, bf16=True)
    file.parent.mkdir()
    torch.save(model.state_dict(), file)
    return tmp_path / 'weights', model


def test_saved_networks_are_found_by_their_names(saved):
    folder, model = saved
    trained, untrained = representation.networks(folder)
    name = 'cifar10-1000-augmented-n=1_every_2nd-500-bf16-4.pth'
    of = 'cifar10-1000-augmented-500-bf16'
    assert trained == dict(of=of, method='n=1_every_2nd', seed=4, file=name)
    assert untrained == dict(trained, method='untrained', file='')
    loaded = representation.network(trained, folder)
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)
    assert not torch.equal(representation.network(untrained, folder).stem.weight, model.stem.weight)
    (folder / 'other.pth').write_bytes(b'')
    with pytest.raises(
        SystemExit, match=r'other.pth was not saved by economy_search.py: take it out'
    ):
        representation.networks(folder)


def test_features_are_what_the_last_layer_gets(saved, digits):
    _, model = saved
    data = representation.Data(digits, 20, 0)
    assert data.train.shape == (20, 3, 32, 32) and data.test.shape == (40, 3, 32, 32)
    torch.testing.assert_close(data.train.mean((0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(data.train.std((0, 2, 3)), torch.ones(3), atol=1e-4, rtol=0)
    grey = representation.Data(digits, 20, 0, channels=1)
    torch.testing.assert_close(grey.train, data.train[:, :1])
    found = representation.features(model, data.test)
    with torch.no_grad():
        torch.testing.assert_close(model.head(found), model.eval()(data.test))


def test_finetuning_trains_all_weights_and_a_probe_none(saved, digits, monkeypatch):
    _, model = saved
    data = representation.Data(digits, 50, 0)
    before = copy.deepcopy(model.state_dict())
    probed = representation.probe(model, data, 0)
    assert 0 <= probed['top1'] <= 100 and probed['C'] in representation.PENALTIES
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    monkeypatch.setattr(representation, 'ITERATIONS', 2)
    representation.finetune(model, data, 0)
    for name, value in model.named_parameters():
        assert not torch.equal(value, before[name]), name


def test_the_table_is_relative_to_plain(saved, digits):
    top1 = {
        'plain': [40.0, 42.0, 44.0],
        'paper': [43.0, 44.5, 47.5],
        'untrained': [41.0, 40.0, 44.0],
    }
    lines = [
        dict(of='cifar10-5000', to='trashnet', labels=120, kind='probe', method=m, seed=s, top1=t)
        for m, values in top1.items()
        for s, t in enumerate(values)
    ]
    error = np.std([3.0, 2.5, 3.5], ddof=1) / 3**0.5
    assert representation.table(lines, 'cifar10-5000') == [
        '| trained with | TrashNet, probe | to plain |',
        '|---|---|---|',
        '| plain | 42.0 ± 2.0 |  |',
        f'| paper | 45.0 ± 2.3 | **+3.0 ({error:.1f})** |',
        '| untrained | 41.7 ± 2.1 | -0.3 (0.9) |',
    ]


def test_from_a_search_to_the_table(tmp_path, saved, monkeypatch, capsys):
    folder, _ = saved
    out, recorded = tmp_path / 'probes.jsonl', tmp_path / 'record.json'
    command = [
        'representation.py',
        '--weights',
        str(folder),
        '--to',
        'digits/50',
        '--kinds',
        'probe',
    ]
    monkeypatch.setattr(sys, 'argv', [*command, '--out', str(out)])
    representation.main()
    methods = [json.loads(line)['method'] for line in out.read_text().splitlines()]
    assert methods == ['n=1_every_2nd', 'untrained']
    assert '| untrained |' in capsys.readouterr().out
    monkeypatch.setattr(sys, 'argv', [*sys.argv, '--record', str(recorded)])
    representation.main()
    page = tmp_path / 'page.md'
    page.write_text(
        '<!-- representation record.json cifar10-1000-augmented-500-bf16 -->\nold\n<!-- end -->\n'
    )
    monkeypatch.setattr(sys, 'argv', ['representation.py', '--page', str(page)])
    representation.main()
    assert '| n=1 every 2nd |' in page.read_text() and 'old' not in page.read_text()


def test_the_pages_table_is_that_of_the_record():
    page = ROOT / 'docs/when_it_helps.md'
    assert '<!-- representation ' in page.read_text()
    assert representation.fill(page.read_text(), page.parent) == page.read_text()
