"""mmgradaug fgsm on a tiny classifier."""

import json

import pytest
import torch
import torch.nn.functional as F
from command_line import exit_code, mmgradaug, parsed, run_mmgradaug

from mmgradaug.evaluation import trained_classifier as trained


def arguments(classifier, *more):
    return [
        str(classifier / 'config.py'),
        str(classifier / 'weights.pth'),
        '--device',
        'cpu',
        *more,
    ]


def test_a_table_a_file_and_a_picture(classifier, tmp_path):
    out = tmp_path / 'fgsm'
    code, output = run_mmgradaug(
        'fgsm', *arguments(classifier, '--eps', '0.1', '0', '--out', str(out))
    )
    assert code == 0, output
    data = json.loads((out / 'fgsm.json').read_text())
    assert (data['kind'], data['eps'], data['images']) == ('fgsm', [0.0, 0.1], 8)
    assert set(data['top1']) == {
        'pixel, clamped', 'pixel, not clamped', 'normalised, clamped', 'normalised, not clamped'
    }  # fmt: skip
    # By hand, from the same network.
    one = trained.load_classifier(parsed('fgsm', *arguments(classifier)))
    mean, std = one.model.data_preprocessor.mean, one.model.data_preprocessor.std
    right = dict.fromkeys(data['top1'], 0)
    clean = 0
    for inputs, labels in one.batches(one.loader(one.test_set())):
        pixels = (inputs * std + mean).requires_grad_()
        logits = one.model((pixels - mean) / std)
        clean += int((logits.argmax(1) == labels).sum())
        F.cross_entropy(logits, labels).backward()
        for variant in right:
            step = 25.5 if variant.startswith('pixel') else 0.1 * std
            moved = pixels.detach() + step * pixels.grad.sign()
            if 'not' not in variant:
                moved = moved.clamp(0, 255)
            with torch.no_grad():
                right[variant] += int((one.model((moved - mean) / std).argmax(1) == labels).sum())
    assert data['clean'] == 100 * clean / 8
    for variant, number in right.items():
        assert data['top1'][variant] == [data['clean'], 100 * number / 8], variant
    assert (
        'Top-1 % under FGSM, epsilon in pixel, not clamped' in output and 'does not say' in output
    )
    assert (out / 'fgsm.png').stat().st_size > 5000
    # An earlier result stays, and can be shown beside.
    before = (out / 'fgsm.json').read_text()
    assert exit_code('fgsm', *arguments(classifier, '--out', str(out))) == 1
    assert (out / 'fgsm.json').read_text() == before


def test_models_are_shown_beside_one_another(classifier, tmp_path, capsys):
    options = ['--eps', '0.2', '--space', 'normalised', '--clamp', 'no', '--max-images', '4']
    first, second = tmp_path / 'a', tmp_path / 'b'
    assert (
        exit_code('fgsm', *arguments(classifier, *options, '--name', 'plain', '--out', str(first)))
        == 0
    )
    capsys.readouterr()
    compare = ['--compare', str(first / 'fgsm.json')]
    assert (
        exit_code(
            'fgsm',
            *arguments(classifier, *options, '--name', 'ours', '--out', str(second), *compare),
        )
        == 0
    )
    output = capsys.readouterr().out
    assert output.index('ours') < output.index('plain') and 'pixel, clamped' not in output
    data = json.loads((second / 'fgsm.json').read_text())
    assert data['images'] == 4 and list(data['top1']) == ['normalised, not clamped']


@pytest.mark.parametrize(
    ('change', 'says'),
    [
        (dict(checkpoint='wrong.pth'), 'is not a checkpoint of'),
        (dict(checkpoint='gone.pth'), 'no such checkpoint'),
        (dict(config='gone.py'), 'no such config'),
    ],
)
def test_wrong_files_are_named(classifier, tmp_path, change, says):
    names = {'config': 'config.py', 'checkpoint': 'weights.pth', **change}
    with pytest.raises(SystemExit, match=says):
        mmgradaug(
            'fgsm',
            *[
                *(str(classifier / names[k]) for k in ('config', 'checkpoint')),
                '--out',
                str(tmp_path),
            ],
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ('options', 'says'),
    [
        (['--eps', '-0.1'], "an epsilon is 0 or more, got '-0.1'"),
        (['--space', 'rgb'], 'invalid choice'),
        (['--max-images', '0'], 'must be a whole number from 1'),
    ],
)
def test_wrong_arguments(classifier, options, says, capsys):
    with pytest.raises(SystemExit):
        parsed('fgsm', *arguments(classifier, *options))
    assert says in capsys.readouterr().err


def test_several_labels_an_image_are_refused(classifier, tmp_path):
    config = (classifier / 'config.py').read_text()
    config = config.replace("dict(type='CenterCrop', crop_size=32),", (
        "dict(type='CenterCrop', crop_size=32), dict(type='mmgradaug.TwoLabels'),"
    ))  # fmt: skip
    (tmp_path / 'config.py').write_text(config)
    from mmgradaug.registry import TRANSFORMS

    if 'TwoLabels' not in TRANSFORMS.module_dict:

        @TRANSFORMS.register_module()
        class TwoLabels:
            """None and two in turn: one an image on average."""

            def __call__(self, results):
                results['gt_label'] = [0, 1] if results['sample_idx'] % 2 else []
                return results

    command = [str(tmp_path / 'config.py'), str(classifier / 'weights.pth'), '--batch-size', '2']
    with pytest.raises(SystemExit, match='each test image has to have one label'):
        mmgradaug('fgsm', *[*command, '--out', str(tmp_path / 'out')])
