"""mmgradaug width-curve on a tiny classifier."""

import json

import pytest
from command_line import exit_code, mmgradaug, parsed, run_mmgradaug

from mmgradaug.evaluation import trained_classifier as trained
from mmgradaug.evaluation import width_curve as tool
from mmgradaug.slimming import extract_subnetwork, recalibrate_statistics, subnetwork


def arguments(classifier, *more):
    return [
        str(classifier / 'config.py'),
        str(classifier / 'weights.pth'),
        '--device',
        'cpu',
        *more,
    ]


def test_accuracy_over_width_is_that_of_the_sub_networks(classifier, tmp_path):
    command = arguments(classifier, '--widths', '1', '0.5', '0.75', '--name', 'net')
    code, output = run_mmgradaug('width-curve', *command, '--out', tmp_path / 'a')
    assert code == 0, output
    data = json.loads((tmp_path / 'a' / 'width_curve.json').read_text())
    assert [point['width'] for point in data['points']] == [0.5, 0.75, 1.0]
    assert (data['training_images'], data['test_images']) == (12, 8)
    one = trained.load_classifier(parsed('width-curve', *command), stock=True)
    images = one.training_images(2048)
    tool.plan(one, images[0])
    loader = one.loader(one.test_set())
    for point in data['points']:
        with subnetwork(one.model, point['width']):
            assert one.accuracy(one.model, loader, 'x') == pytest.approx(point['full_statistics'])
        small = extract_subnetwork(one.model, point['width'])
        recalibrate_statistics(small, images)
        assert one.accuracy(small, loader, 'x') == pytest.approx(point['recalibrated'])
        assert sum(p.numel() for p in small.parameters()) == point['parameters']
    assert (
        'net: own statistics' in output
        and (tmp_path / 'a' / 'width_curve.png').stat().st_size > 5000
    )


def test_models_are_shown_beside_one_another(classifier, tmp_path, capsys):
    first = [
        '--widths',
        '0.5',
        '1',
        '--name',
        'plain',
        '--out',
        str(tmp_path / 'a'),
        '--max-images',
        '4',
    ]
    assert exit_code('width-curve', *arguments(classifier, *first)) == 0
    second = [
        '--widths',
        '0.9',
        '1',
        '--name',
        'ours',
        '--out',
        str(tmp_path / 'b'),
        '--max-images',
        '4',
    ]
    file = tmp_path / 'a' / 'width_curve.json'
    capsys.readouterr()
    assert exit_code('width-curve', *arguments(classifier, *second, '--compare', str(file))) == 0
    lines = {
        line.split()[0]: line.split()[1:]
        for line in capsys.readouterr().out.splitlines()
        if line.strip()
    }
    assert (
        lines['0.5'][:2] == ['-', '-'] and lines['0.9'][2:] == ['-', '-'] and '-' not in lines['1']
    )
    before = file.read_text()
    assert exit_code('width-curve', *arguments(classifier, *first)) == 1
    assert 'is there already' in capsys.readouterr().err and file.read_text() == before


def test_wrong_input(classifier, tmp_path, capsys):
    with pytest.raises(SystemExit):
        parsed('width-curve', *arguments(classifier, '--widths', '0'))
    assert 'a width is in (0, 1]' in capsys.readouterr().err
    wrong = [
        str(classifier / 'config.py'),
        str(classifier / 'wrong.pth'),
        '--out',
        str(tmp_path / 'x'),
    ]
    with pytest.raises(SystemExit, match='is not a checkpoint of'):
        mmgradaug('width-curve', *wrong)
    nowhere = [
        '--cfg-options',
        'train_dataloader.dataset.data_root=nowhere',
        '--out',
        str(tmp_path / 'x'),
    ]
    with pytest.raises(SystemExit, match='the training set cannot be read'):
        mmgradaug('width-curve', *arguments(classifier, *nowhere))
    assert not (tmp_path / 'x').exists()


def test_models_of_one_name_are_not_mixed_up(classifier, tmp_path):
    other = tmp_path / 'other.json'
    other.write_text(json.dumps(dict(kind='width_curve', model=dict(name='net'), points=[])))
    options = ['--name', 'net', '--compare', str(other), '--out', str(tmp_path / 'x')]
    with pytest.raises(SystemExit, match='same name: net, net. Give this one another by --name'):
        mmgradaug('width-curve', *arguments(classifier, *options))
    assert not (tmp_path / 'x').exists()
