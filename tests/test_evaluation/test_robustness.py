"""mmgradaug robustness: real runs over 75 tiny sets."""

import json
import os
import shutil
import signal
import subprocess

import numpy as np
import pytest
import torch
from command_line import MMGRADAUG, NO_GPU, exit_code, mmgradaug, parsed, run_mmgradaug
from PIL import Image

from mmgradaug.config_types import short_name
from mmgradaug.datasets import CORRUPTIONS, SEVERITIES, corrupt
from mmgradaug.evaluation import ALEXNET_ERRORS
from mmgradaug.evaluation import robustness as tool
from mmgradaug.evaluation import trained_classifier as trained
from mmgradaug.evaluation.shown import SHORT, robustness_grid


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
        [str(part) for part in [*MMGRADAUG, 'robustness', *command, '--out', out]],
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
    code, output = run_mmgradaug('robustness', *command, '--out', out)
    assert code == 0, output
    assert f'{done} sets were tested before' in output and f'[1/{75 - done}]' in output
    assert 'about' in output and 'min left' in output
    # Uninterrupted, in this process.
    assert exit_code('robustness', *[*command, '--out', str(tmp_path / 'whole')]) == 0
    found, whole = (
        json.loads((tmp_path / name / 'robustness.json').read_text())
        for name in ('stopped', 'whole')
    )
    assert found == whole
    # By hand: each set's error, from its images.
    one = trained.load_classifier(parsed('robustness', *command))
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
    # Which is no mCE as others publish it.
    assert "of ImageNet's 1000 classes, this network has 4: NOT comparable" in output
    assert 'Through LoadImageFromFile() > CenterCrop(crop_size=32) > PackInputs().' in output
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
    assert exit_code('robustness', *command) == 1
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
    assert exit_code('robustness', *command) == 0
    said = capsys.readouterr()
    assert '73 sets were tested before' in said.out and 'mCE' in said.out
    # Incomplete sets are found out by their number of images.
    next((partly / 'snow' / '2' / 'n1').iterdir()).unlink()
    assert exit_code('robustness', *[*command, '--overwrite', '--corruptions', 'snow']) == 1
    assert (
        'snow 2 has 7 images, the sets before have 8: one of them is incomplete'
        in capsys.readouterr().err
    )


def test_other_images_are_corrupted_here_and_not_normalised(classifier, tmp_path, capsys):
    options = ['--corruptions', 'contrast', 'gaussian_noise', '--severities', '1', '5']
    command = arguments(classifier, *options, '--out', str(tmp_path / 'a'))
    assert exit_code('robustness', *command) == 0
    said = capsys.readouterr().out
    assert 'NOT comparable' in said and 'mCE' not in said
    data = json.loads((tmp_path / 'a' / 'robustness.json').read_text())
    assert list(data['sets']) == ['gaussian_noise', 'contrast'] and data['mean_error'] is None
    # The same draws with other batches; others with another seed.
    again = ['--out', str(tmp_path / 'b'), '--batch-size', '8']
    assert exit_code('robustness', *arguments(classifier, *options, *again)) == 0
    assert json.loads((tmp_path / 'b' / 'robustness.json').read_text())['sets'] == data['sets']
    # The pipeline corrupts what was cropped, before it is packed.
    args = parsed('robustness', *arguments(classifier, *options))
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
    assert exit_code('robustness', *[*command, '--seed', '1']) == 1
    assert 'is of other data or settings: use another --out' in capsys.readouterr().err
    assert (tmp_path / 'a' / 'robustness.json').read_text() == before


def test_models_are_shown_beside_one_another_as_in_table_8():
    def model(name, mce, error):
        sets = {c: {str(s): dict(error=error, images=8) for s in SEVERITIES} for c in CORRUPTIONS}
        data = dict(
            model=dict(name=name), sets=sets, clean=dict(error=0.1, images=8),
            setting=dict(source=dict(imagenet_c='x'), max_images=0), classes=1000, pipeline=['load'],
        )  # fmt: skip
        return {**data, **tool.summary(data)}

    grid = robustness_grid([model('ours', 60, 0.5), model('plain', 70, 0.6)])
    assert 'NOT comparable' not in grid.notes
    assert list(grid.head) == ['', 'clean', *SHORT.values(), 'mCE']
    rows = {row[0]: row[1:] for row in grid.rows}
    expected = np.mean([100 * 0.5 / alexnet for alexnet in ALEXNET_ERRORS.values()])
    assert rows['ours'][0] == '10.0' and rows['ours'][-1] == f'{expected:.1f}'
    assert float(rows['plain'][-1]) == pytest.approx(1.2 * expected, abs=0.1)


@pytest.mark.parametrize(
    ('options', 'says'),
    [
        (['--imagenet-c', 'nowhere'], 'no such folder: nowhere'),
        (['--corruptions', 'rain'], "invalid choice: 'rain'"),
        (['--severities', '6'], 'invalid choice: 6'),
        (['--cifar-c', 'nowhere'], 'no such folder: nowhere'),
        (['--cifar-c', '.', '--imagenet-c', '.'], 'not allowed with argument'),
    ],
)
def test_wrong_arguments(classifier, options, says, capsys):
    with pytest.raises(SystemExit):
        parsed('robustness', *arguments(classifier, *options))
    assert says in capsys.readouterr().err


def test_a_folder_without_sets_and_a_wrong_checkpoint(classifier, tmp_path, capsys):
    out = tmp_path / 'out'
    assert (
        exit_code(
            'robustness', *arguments(classifier, '--imagenet-c', str(tmp_path), '--out', str(out))
        )
        == 1
    )
    assert 'there is no set of ImageNet-C in' in capsys.readouterr().err
    with pytest.raises(SystemExit, match='is not a checkpoint of'):
        mmgradaug(
            'robustness',
            *[str(classifier / 'config.py'), str(classifier / 'wrong.pth'), '--out', str(out)],
        )
    assert not out.exists()


def config_of(classifier, tmp_path, *changes):
    """The fixture's config with changes to its text, in a file."""
    text = (classifier / 'config.py').read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    file = tmp_path / 'changed.py'
    file.write_text(text)
    return file


NO_LOADING = (('load,', ''), ('to_rgb=True', 'to_rgb=False'))
RESIZE_EDGE = "dict(type='ResizeEdge', scale=36, edge='short'),"
CENTER_CROP = "dict(type='CenterCrop', crop_size=32),"


@pytest.fixture
def sets_of_config(classifier, tmp_path):
    def make(options, *changes):
        config = config_of(classifier, tmp_path, *changes)
        command = [str(config), *arguments(classifier, *map(str, options))[1:]]
        args = parsed('robustness', *command)
        args.num_classes = 4
        return tool.Sets(trained.load_classifier(args), args)

    return make


@pytest.mark.parametrize(
    ('changes', 'bgr'),
    [
        ([], True),
        ([("'ResizeEdge'", "'mmpretrain.ResizeEdge'")], True),
        ([(RESIZE_EDGE, "dict(type='torchvision/Resize', size=36),")], True),
        ([(RESIZE_EDGE, ''), ("'CenterCrop'", "'EfficientNetCenterCrop'")], True),
        ([('to_rgb=True', 'to_rgb=False')], True),  # a network of BGR images
        ([('load,', '')], True),
        (NO_LOADING, False),  # as CIFAR's, whose data set hands RGB out
    ],
)
def test_official_images_are_not_resized_and_have_the_networks_order_of_colours(
    sets_of_config, tmp_path, changes, bgr
):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
    for label in range(4):
        place = tmp_path / 'imagenet_c' / 'fog' / '2' / f'n{label}'
        place.mkdir(parents=True)
        Image.fromarray(pixels + np.uint8(label)).save(place / '0.png')
    sets = sets_of_config(['--imagenet-c', tmp_path / 'imagenet_c'], *changes)
    dataset = sets.get('fog', 2)
    assert len(dataset) == 4
    for label in range(4):
        expected = (pixels + np.uint8(label))[4:36, 4:36]
        found = dataset[label]['inputs'].permute(1, 2, 0).numpy()
        assert np.array_equal(found[..., ::-1] if bgr else found, expected)
        assert dataset[label]['data_samples'].gt_label.item() == label


@pytest.mark.parametrize(
    ('changes', 'bgr'),
    [
        ([], True),
        ([("'PackInputs'", "'mmpretrain.PackInputs'")], True),
        ([('to_rgb=True', 'to_rgb=False')], True),
        (
            [*NO_LOADING, ("'CustomDataset'", "'mmgradaug.ImageFolder'"), ('data_prefix', 'split')],
            False,
        ),
    ],
)
def test_what_corrupts_sees_rgb(sets_of_config, changes, bgr):
    """By brightness, of which blue and red have a different share."""
    sets = sets_of_config([], *changes)
    found = sets.get('brightness', 3)[0]['inputs'].permute(1, 2, 0).numpy()
    clean = sets.classifier.test_set()[0]['inputs'].permute(1, 2, 0).numpy()
    if bgr:
        found, clean = found[..., ::-1], clean[..., ::-1]
    assert np.array_equal(found, corrupt(np.ascontiguousarray(clean), 'brightness', 3))


def test_a_config_with_classes_for_types(sets_of_config, tmp_path):
    """MMEngine's newer kind of config imports what it names."""
    sets = sets_of_config(
        [],
        ("type='ResizeEdge'", 'type=ResizeEdge'),
        ("type='PackInputs'", 'type=PackInputs'),
        (
            "default_scope = 'mmpretrain'",
            "from mmpretrain.datasets.transforms import PackInputs, ResizeEdge\n\ndefault_scope = 'mmpretrain'",
        ),
    )
    names = [short_name(step) for step in sets.pipeline()]
    assert names == ['LoadImageFromFile', 'ResizeEdge', 'CenterCrop', 'Corrupt', 'PackInputs']
    assert sets.get('fog', 1)[0]['inputs'].shape == (3, 32, 32)
    sets.args.imagenet_c = tmp_path
    assert [short_name(step) for step in sets.pipeline()] == [
        'LoadImageFromFile', 'CenterCrop', 'PackInputs'
    ]  # fmt: skip


@pytest.fixture(scope='module')
def cifar_c(tmp_path_factory):
    """Eight images in five severities of each corruption, as CIFAR-10-C has its 10,000."""
    folder = tmp_path_factory.mktemp('CIFAR-10-C')
    rng = np.random.default_rng(1)
    np.save(folder / 'labels.npy', np.tile([3, 1, 0, 2, 2, 1, 0, 3], 5))
    for corruption in CORRUPTIONS:
        low = rng.integers(0, 256, (40, 4, 4, 3), dtype=np.uint8)
        np.save(folder / f'{corruption}.npy', low.repeat(8, 1).repeat(8, 2))
    return folder


@pytest.mark.parametrize('changes', [[], NO_LOADING])
def test_cifar_c_is_tested_as_it_is_and_not_normalised(
    classifier, cifar_c, tmp_path, capsys, changes
):
    config = config_of(classifier, tmp_path, *changes, (RESIZE_EDGE, ''), (CENTER_CROP, ''))
    command = [str(config), *arguments(classifier)[1:], '--cifar-c', str(cifar_c), '--no-clean']
    assert exit_code('robustness', *[*command, '--out', str(tmp_path / 'out')]) == 0
    said = capsys.readouterr().out
    assert 'the mean is not normalised' in said and 'mCE' not in said
    data = json.loads((tmp_path / 'out' / 'robustness.json').read_text())
    one = trained.load_classifier(parsed('robustness', *command))
    mean, std = one.model.data_preprocessor.mean, one.model.data_preprocessor.std
    errors = []
    for corruption in CORRUPTIONS:
        pixels = torch.from_numpy(np.load(cifar_c / f'{corruption}.npy')).permute(0, 3, 1, 2)
        with torch.no_grad():
            predicted = one.model((pixels.float() - mean) / std).argmax(1).reshape(5, 8)
        for severity in SEVERITIES:
            wrong = predicted[severity - 1] != torch.tensor([3, 1, 0, 2, 2, 1, 0, 3])
            errors.append(wrong.double().mean().item())
            expected = dict(error=errors[-1], images=8)
            assert data['sets'][corruption][str(severity)] == expected
    assert len(set(errors)) > 3
    assert data['mean_error'] == pytest.approx(100 * np.mean(errors))
    assert data['mce'] is None and data['corruption_errors'] is None
    # Other networks' classes are found out.
    monkey = tmp_path / 'other'
    shutil.copytree(cifar_c, monkey)
    np.save(monkey / 'labels.npy', np.arange(40) % 5)
    command[command.index(str(cifar_c))] = str(monkey)
    assert exit_code('robustness', *[*command, '--out', str(tmp_path / 'no')]) == 1
    assert 'has 5 classes instead of 4' in capsys.readouterr().err
    assert not (tmp_path / 'no').exists()


def test_broken_sets_are_named_and_what_was_tested_is_kept(
    classifier, imagenet_c, tmp_path, capsys
):
    broken = tmp_path / 'imagenet_c'
    shutil.copytree(imagenet_c / 'fog', broken / 'fog')
    file = next((broken / 'fog' / '3' / 'n2').iterdir())
    file.write_bytes(file.read_bytes()[:40])
    command = arguments(classifier, '--imagenet-c', str(broken), '--corruptions', 'fog', '--out')
    assert exit_code('robustness', *[*command, str(tmp_path / 'a')]) == 1
    said = capsys.readouterr().err
    assert 'fog 3: an image cannot be used' in said and str(file) in said
    data = json.loads((tmp_path / 'a' / 'robustness.json').read_text())
    assert list(data['sets']['fog']) == ['1', '2']
    # A class that is not there would shift labels: found before anything is tested.
    shutil.rmtree(broken / 'fog' / '5' / 'n1')
    assert exit_code('robustness', *[*command, str(tmp_path / 'b')]) == 1
    assert 'has 3 classes instead of 4, so labels would be wrong' in capsys.readouterr().err
    assert not (tmp_path / 'b').exists()


def test_results_on_other_images_are_not_put_beside(classifier, imagenet_c, tmp_path, capsys):
    part = ['--corruptions', 'fog', '--severities', '1']
    official = [*part, '--imagenet-c', str(imagenet_c), '--no-clean', '--out', str(tmp_path / 'a')]
    assert exit_code('robustness', *arguments(classifier, *official)) == 0
    other = [*part, '--name', 'other', '--compare', str(tmp_path / 'a' / 'robustness.json')]
    assert (
        exit_code('robustness', *arguments(classifier, *other, '--out', str(tmp_path / 'b'))) == 1
    )
    assert 'config was tested on other images (ImageNet-C; here: ' in capsys.readouterr().err
    assert not (tmp_path / 'b').exists()


@pytest.mark.parametrize(
    ('changes', 'says'),
    [
        ([('crop_size=32', 'crop_size=16')], 'with at least 32 pixels either way, got uint8 of (16'),
        (
            [("test_cfg = dict()", "test_dataloader = dict(dataset=dict(type='RepeatDataset', times=2))")],
            'RepeatDataset has no pipeline',
        ),
        (
            [('test_evaluator = ', 'test_dataloader = '), ("dict(type='Accuracy', topk=1)", 'None')],
            'there is no test set',
        ),
    ],
)  # fmt: skip
def test_a_test_set_that_cannot_be_corrupted(classifier, tmp_path, capsys, changes, says):
    config = config_of(classifier, tmp_path, *changes)
    command = [str(config), *arguments(classifier)[1:], '--out', str(tmp_path / 'out')]
    assert exit_code('robustness', *command) == 1
    assert says in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_without_the_clean_images(classifier, imagenet_c, tmp_path):
    gone = ['--cfg-options', f'test_dataloader.dataset.data_root={tmp_path}/nowhere']
    part = ['--corruptions', 'fog', '--severities', '1', '--imagenet-c', str(imagenet_c)]
    command = arguments(classifier, *part, *gone, '--out', str(tmp_path / 'out'))
    with pytest.raises(
        SystemExit, match='cannot be read(.|\n)*Without the clean images: --no-clean'
    ):
        mmgradaug('robustness', *command)
    assert exit_code('robustness', *[*command, '--no-clean']) == 0
