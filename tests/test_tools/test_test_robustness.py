"""tools/test_robustness.py: real runs over 75 tiny sets."""

import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from command_line import NO_GPU, ROOT, load_tool, run
from PIL import Image

from mmgradaug.datasets import CORRUPTIONS, SEVERITIES
from mmgradaug.evaluation import ALEXNET_ERRORS

trained = load_tool('trained_classifier')
tool = load_tool('test_robustness')
COMMAND = [sys.executable, ROOT / 'tools' / 'test_robustness.py']


def arguments(classifier, *more):
    return [
        str(classifier / 'config.py'),
        str(classifier / 'weights.pth'),
        '--device',
        'cpu',
        *more,
    ]


@pytest.fixture(scope='module')
def imagenet_c(tmp_path_factory):
    """All 75 sets, of four classes with two images each, one of them in grey."""
    folder = tmp_path_factory.mktemp('imagenet_c')
    rng = np.random.default_rng(0)
    groups = dict(zip(CORRUPTIONS, ['noise'] * 3 + ['blur'] * 4 + [''] * 8))
    for corruption in CORRUPTIONS:
        for severity in SEVERITIES:
            for label in range(4):
                place = folder / groups[corruption] / corruption / str(severity) / f'n{label}'
                place.mkdir(parents=True)
                for i in range(2):
                    low = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
                    image = Image.fromarray(low).resize((32, 32), Image.BILINEAR)
                    (image.convert('L') if i else image).save(place / f'{i}.png')
    return folder


def test_stopped_half_way_it_goes_on_to_the_same_result(classifier, imagenet_c, tmp_path):
    out = tmp_path / 'stopped'
    command = arguments(classifier, '--imagenet-c', str(imagenet_c), '--name', 'net')
    process = subprocess.Popen(
        [str(part) for part in [*COMMAND, *command, '--out', out]],
        env={**os.environ, **NO_GPU},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    for line in process.stdout:
        if line.startswith('[20/75]'):
            process.send_signal(signal.SIGTERM)  # background jobs ignore SIGINT
            break
    rest = process.stdout.read()
    assert process.wait() == 130 and 'the same command goes on' in rest, rest
    half = json.loads((out / 'robustness.json').read_text())
    done = sum(len(found) for found in half['sets'].values())
    assert 20 <= done < 75 and half['mce'] is None and len(half['missing']) == 75 - done
    code, output = run(*COMMAND, *command, '--out', out)
    assert code == 0, output
    assert f'{done} sets were tested before' in output and f'[1/{75 - done}]' in output
    assert 'about' in output and 'min left' in output
    # Uninterrupted, in this process.
    assert tool.main([*command, '--out', str(tmp_path / 'whole')]) == 0
    found, whole = (
        json.loads((tmp_path / name / 'robustness.json').read_text())
        for name in ('stopped', 'whole')
    )
    assert found == whole
    # By hand: each set's error, from its images.
    one = trained.load_classifier(tool.parse_args(command))
    preprocessor = one.model.data_preprocessor
    errors = {}
    for corruption in CORRUPTIONS:
        errors[corruption] = []
        for severity in SEVERITIES:
            files = sorted(
                p
                for p in imagenet_c.rglob('*.png')
                if p.parts[-4:-2] == (corruption, str(severity))
            )
            pixels = np.stack([np.asarray(Image.open(p).convert('RGB')) for p in files]).transpose(
                0, 3, 1, 2
            )
            inputs = (torch.from_numpy(pixels).float() - preprocessor.mean) / preprocessor.std
            with torch.no_grad():
                predicted = one.model(inputs).argmax(1)
            wrong = (predicted != torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])).double().mean().item()
            assert found['sets'][corruption][str(severity)] == dict(error=wrong, images=8)
            errors[corruption].append(wrong)
    ces = [100 * np.mean(errors[c]) / ALEXNET_ERRORS[c] for c in CORRUPTIONS]
    assert found['mce'] == pytest.approx(np.mean(ces)) and f'{np.mean(ces):.1f}' in output
    assert len(set(np.round(ces, 6))) > 3
    assert found['clean']['images'] == 8
    assert (out / 'robustness.png').stat().st_size > 5000


def test_no_mce_while_a_set_is_missing(classifier, imagenet_c, tmp_path, capsys):
    partly = tmp_path / 'imagenet_c'
    shutil.copytree(imagenet_c, partly)
    shutil.rmtree(partly / 'fog' / '4')
    shutil.rmtree(partly / 'noise' / 'shot_noise' / '1')
    command = arguments(
        classifier, '--imagenet-c', str(partly), '--no-clean', '--out', str(tmp_path / 'out')
    )
    assert tool.main(command) == 1
    said = capsys.readouterr()
    assert 'lacks 2 sets, so there is no mCE: shot_noise 1, fog 4' in said.err
    assert 'No mCE: 2 of 75 sets were not tested' in said.out and 'mCE\n' not in said.out
    data = json.loads((tmp_path / 'out' / 'robustness.json').read_text())
    assert (
        data['mce'] is None
        and data['missing'] == ['shot_noise 1', 'fog 4']
        and data['clean'] is None
    )
    # Once they are there, only they are tested.
    for name in ('fog/4', 'noise/shot_noise/1'):
        shutil.copytree(imagenet_c / name, partly / name)
    assert tool.main(command) == 0
    said = capsys.readouterr()
    assert '73 sets were tested before' in said.out and 'mCE' in said.out
    # Incomplete sets are found out by their number of images.
    next((partly / 'snow' / '2' / 'n1').iterdir()).unlink()
    assert tool.main([*command, '--overwrite', '--corruptions', 'snow']) == 1
    assert (
        'snow 2 has 7 images, the sets before have 8: one of them is incomplete'
        in capsys.readouterr().err
    )


def test_other_images_are_corrupted_here_and_not_normalised(classifier, tmp_path, capsys):
    options = ['--corruptions', 'contrast', 'gaussian_noise', '--severities', '1', '5']
    command = arguments(classifier, *options, '--out', str(tmp_path / 'a'))
    assert tool.main(command) == 0
    said = capsys.readouterr().out
    assert 'NOT comparable' in said and 'mCE' not in said
    data = json.loads((tmp_path / 'a' / 'robustness.json').read_text())
    assert list(data['sets']) == ['gaussian_noise', 'contrast'] and data['mean_error'] is None
    # The same draws with other batches; others with another seed.
    again = ['--out', str(tmp_path / 'b'), '--batch-size', '8']
    assert tool.main(arguments(classifier, *options, *again)) == 0
    assert json.loads((tmp_path / 'b' / 'robustness.json').read_text())['sets'] == data['sets']
    # The pipeline corrupts what was cropped, before it is packed.
    args = tool.parse_args(arguments(classifier, *options))
    one = trained.load_classifier(args)
    pipeline = tool.Sets(one, args).corrupting('contrast', 1)['pipeline']
    steps = [s['type'] for s in pipeline]
    assert steps == [
        'LoadImageFromFile',
        'ResizeEdge',
        'CenterCrop',
        'mmgradaug.Corrupt',
        'PackInputs',
    ]
    assert pipeline[3]['bgr'] is True
    # What is there is not mixed with other settings, and not lost.
    before = (tmp_path / 'a' / 'robustness.json').read_text()
    assert tool.main([*command, '--seed', '1']) == 1
    assert 'is of other data or settings: use another --out' in capsys.readouterr().err
    assert (tmp_path / 'a' / 'robustness.json').read_text() == before


def test_models_are_shown_beside_one_another_as_in_table_8():
    def model(name, mce, error):
        sets = {c: {str(s): dict(error=error, images=8) for s in SEVERITIES} for c in CORRUPTIONS}
        data = dict(
            model=dict(name=name), sets=sets, clean=dict(error=0.1, images=8),
            setting=dict(source=dict(imagenet_c='x'), max_images=0),
        )  # fmt: skip
        return {**data, **tool.summary(data)}

    table = tool.told([model('ours', 60, 0.5), model('plain', 70, 0.6)]).splitlines()
    (head,) = [line for line in table if line.endswith('mCE')]
    assert head.split() == ['clean', *tool.SHORT.values(), 'mCE']
    rows = {
        line.split()[0]: line.split()[1:]
        for line in table
        if line.startswith(('ours', 'plain')) and ':' not in line
    }
    expected = np.mean([100 * 0.5 / alexnet for alexnet in ALEXNET_ERRORS.values()])
    assert rows['ours'][0] == '10.0' and rows['ours'][-1] == f'{expected:.1f}'
    assert float(rows['plain'][-1]) == pytest.approx(1.2 * expected, abs=0.1)


@pytest.mark.parametrize(
    ('options', 'says'),
    [
        (['--imagenet-c', 'nowhere'], 'no such folder: nowhere'),
        (['--corruptions', 'rain'], "invalid choice: 'rain'"),
        (['--severities', '6'], 'invalid choice: 6'),
    ],
)
def test_wrong_arguments(classifier, options, says, capsys):
    with pytest.raises(SystemExit):
        tool.parse_args(arguments(classifier, *options))
    assert says in capsys.readouterr().err


def test_a_folder_without_sets_and_a_wrong_checkpoint(classifier, tmp_path, capsys):
    out = tmp_path / 'out'
    assert tool.main(arguments(classifier, '--imagenet-c', str(tmp_path), '--out', str(out))) == 1
    assert 'there is no set of ImageNet-C in' in capsys.readouterr().err
    with pytest.raises(SystemExit, match='is not a checkpoint of'):
        tool.main([str(classifier / 'config.py'), str(classifier / 'wrong.pth'), '--out', str(out)])
    assert not out.exists()
