"""mmgradaug extract on a tiny classifier."""

import json
import os
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
import torch
from command_line import NO_GPU, exit_code, mmgradaug, parsed, run_mmgradaug
from mmengine.config import Config

from mmgradaug.evaluation import extract as tool
from mmgradaug.evaluation import trained_classifier as trained
from mmgradaug.slimming import extract_subnetwork, recalibrate_statistics


def arguments(classifier, *more):
    return [
        str(classifier / 'config.py'),
        str(classifier / 'weights.pth'),
        '--device',
        'cpu',
        *more,
    ]


@pytest.fixture(scope='module')
def extracted(classifier, tmp_path_factory):
    """The folder of a sub-network of width 0.6, with ONNX; and what the tool said."""
    out = tmp_path_factory.mktemp('extracted') / 'net'
    command = arguments(classifier, '--width', '0.6', '--onnx', '--out', str(out))
    code, output = run_mmgradaug('extract', *command)
    assert code == 0, output
    return out, output


def expected_network(classifier):
    """The sub-network, taken out and measured here."""
    one = trained.load_classifier(
        parsed('extract', *arguments(classifier, '--width', '0.6')), stock=True
    )
    images = one.training_images(2048)
    tool.plan(one, images[0])
    small = extract_subnetwork(one.model, 0.6)
    recalibrate_statistics(small, images)
    return small.eval()


# As a user of MMPretrain has it: mmgradaug cannot be imported.
STOCK = """
import sys
sys.modules['mmgradaug'] = None
import torch
from mmengine.config import Config
from mmpretrain import get_model
model = get_model('{out}/subnetwork.py', pretrained='{out}/subnetwork.pth')
assert type(model.backbone).__module__.startswith('mmpretrain.')
torch.manual_seed(0)
torch.save(model.eval()(torch.randn(3, 3, 32, 32)).detach(), '{file}')
from mmengine.runner import Runner
cfg = Config.fromfile('{out}/subnetwork.py')
cfg.work_dir, cfg.load_from = '{file}.work', '{out}/subnetwork.pth'
print('top-1:', Runner.from_cfg(cfg).test()['accuracy/top1'])
"""


def test_it_loads_in_stock_mmpretrain_and_computes_the_same(classifier, extracted, tmp_path):
    out, _ = extracted
    file = tmp_path / 'logits.pth'
    done = subprocess.run(
        [sys.executable, '-c', STOCK.format(out=out, file=file)],
        env={**os.environ, **NO_GPU},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    small = expected_network(classifier)
    torch.manual_seed(0)
    with torch.no_grad():
        expected = small(torch.randn(3, 3, 32, 32))
    assert torch.equal(torch.load(file, weights_only=True), expected)
    told = json.loads((out / 'subnetwork.json').read_text())['top1']['recalibrated']
    assert float(done.stdout.split('top-1:')[1].split()[0]) == pytest.approx(told)


def test_onnx_computes_the_same_for_any_batch(classifier, extracted):
    out, _ = extracted
    session = onnxruntime.InferenceSession(str(out / 'subnetwork.onnx'))
    small = expected_network(classifier)
    for number in (1, 5):
        images = torch.randn(number, 3, 32, 32)
        (found,) = session.run(None, {'images': images.numpy()})
        with torch.no_grad():
            expected = small(images).numpy()
        assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


def test_it_says_how_the_two_compare(classifier, extracted):
    out, output = extracted
    data = json.loads((out / 'subnetwork.json').read_text())
    small = expected_network(classifier)
    full = trained.load_classifier(
        parsed('extract', *arguments(classifier, '--width', '1')), stock=True
    )
    assert data['full']['parameters'] == sum(p.numel() for p in full.model.parameters())
    assert data['subnetwork']['parameters'] == sum(p.numel() for p in small.parameters())
    # The stem by hand: 7 x 7 x 3 weights for each of 16 x 16 pixels and 8 channels, of which 5 are left.
    stems = [49 * 3 * 256 * channels for channels in (8, 5)]
    assert (
        stems[0] < data['full']['macs']
        and stems[1] < data['subnetwork']['macs'] < data['full']['macs'] / 2
    )
    assert data['full']['flops'] == 2 * data['full']['macs']
    sizes = (out / 'subnetwork.pth').stat().st_size, (classifier / 'weights.pth').stat().st_size
    assert data['subnetwork']['megabytes'] == sizes[0] / 1e6 and sizes[0] < 0.6 * sizes[1]
    assert data['training_images'] == 12  # all there are
    one = trained.load_classifier(
        parsed('extract', *arguments(classifier, '--width', '1')), stock=True
    )
    loader = one.loader(one.test_set())
    assert data['top1']['full'] == pytest.approx(one.accuracy(one.model, loader, 'x'))
    assert data['top1']['recalibrated'] == pytest.approx(one.accuracy(small, loader, 'x'))
    for words in (
        'parameters (millions)',
        'GMACs',
        'GFLOPs (2 x MACs)',
        'latency, batch 1 (ms)',
        'top-1 %',
    ):
        assert words in output
    assert 'onnxruntime differs from PyTorch by' in output


def test_a_result_is_not_overwritten_unasked(classifier, extracted, capsys):
    out, _ = extracted
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert exit_code('extract', *arguments(classifier, '--width', '0.9', '--out', str(out))) == 1
    assert 'has a sub-network already: use another --out, or --overwrite' in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_statistics_as_means_over_widths(classifier, tmp_path):
    out = tmp_path / 'mean'
    options = ['--width', '0.6', '--average-widths', '0.6', '1.0', '--no-test', '--out', str(out)]
    assert exit_code('extract', *arguments(classifier, *options)) == 0
    one = trained.load_classifier(parsed('extract', *arguments(classifier, *options)), stock=True)
    images = one.training_images(2048)
    tool.plan(one, images[0])
    means = []
    for width in (0.6, 1.0):
        network = extract_subnetwork(one.model, width)
        recalibrate_statistics(network, images)
        means.append(network.backbone.layer2[0].bn1.running_var[:10])
    found = torch.load(out / 'subnetwork.pth', weights_only=True)['state_dict']
    expected = (means[0] + means[1]) / 2
    torch.testing.assert_close(found['backbone.layer2.0.bn1.running_var'], expected)
    assert json.loads((out / 'subnetwork.json').read_text())['top1']['full'] is None


def test_our_own_backbones_name_mmgradaug(classifier, tmp_path):
    config = Config.fromfile(classifier / 'config.py')
    config.model.backbone = dict(type='mmgradaug.WideResNet', depth=10, widen_factor=1)
    config.dump(tmp_path / 'config.py')
    from mmengine.registry import DefaultScope
    from mmpretrain.registry import MODELS

    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(config.model)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'weights.pth')
    out = tmp_path / 'out'
    assert (
        exit_code('extract', *arguments(tmp_path, '--width', '0.5', '--no-test', '--out', str(out)))
        == 0
    )
    assert sorted(p.name for p in out.iterdir()) == [
        'subnetwork.json',
        'subnetwork.pth',
        'subnetwork.py',
    ]
    cfg = Config.fromfile(out / 'subnetwork.py')
    assert cfg.custom_imports.imports == ['mmgradaug']
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        built = MODELS.build(cfg.model)
    state = torch.load(out / 'subnetwork.pth', weights_only=True)['state_dict']
    built.load_state_dict(state, strict=True)


@pytest.mark.parametrize(
    ('options', 'says'),
    [
        (['--width', '1.5'], "a width is in (0, 1], 0.9 for instance; got '1.5'"),
        (['--width', 'x'], 'a width is in (0, 1]'),
        ([], 'required: --width'),
    ],
)
def test_wrong_arguments(classifier, options, says, capsys):
    with pytest.raises(SystemExit):
        parsed('extract', *arguments(classifier, *options))
    assert says in capsys.readouterr().err


def test_means_are_not_over_narrower_networks(classifier, capsys):
    options = ['--width', '0.8', '--average-widths', '0.7', '0.9']
    assert exit_code('extract', *arguments(classifier, *options)) == 1
    assert '0.7 has fewer channels than --width 0.8' in capsys.readouterr().err


def test_wrong_checkpoints_and_networks(classifier, tmp_path, capsys):
    out = tmp_path / 'out'
    wrong = [str(classifier / 'config.py'), str(classifier / 'wrong.pth'), '--width', '0.5']
    with pytest.raises(SystemExit, match='is not a checkpoint of'):
        mmgradaug('extract', *[*wrong, '--out', str(out)])
    config = Config.fromfile(classifier / 'config.py')
    # Its code splits channels in halves, where a sub-network has uneven parts.
    config.model.backbone = dict(type='ShuffleNetV2', widen_factor=0.5)
    config.model.head.in_channels = 1024
    config.dump(tmp_path / 'config.py')
    from mmengine.registry import DefaultScope
    from mmpretrain.registry import MODELS

    with DefaultScope.overwrite_default_scope('mmpretrain'):
        torch.save(MODELS.build(config.model).state_dict(), tmp_path / 'weights.pth')
    assert exit_code('extract', *arguments(tmp_path, '--width', '0.5', '--out', str(out))) == 1
    assert 'cannot be taken out of ImageClassifier' in capsys.readouterr().err
    assert not out.exists()


def saved(config, folder):
    """The config and random weights of its model, as a folder for :func:`arguments`."""
    from mmengine.registry import DefaultScope
    from mmpretrain.registry import MODELS

    config.dump(folder / 'config.py')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(config.copy().model)
    torch.save(dict(state_dict=model.state_dict()), folder / 'weights.pth')
    return folder


def test_data_of_ours_does_not_keep_a_stock_network_from_mmpretrain(classifier, tmp_path):
    """It loads without mmgradaug, and for the test mmgradaug is imported where there is one."""
    config = Config.fromfile(classifier / 'config.py')
    for name in ('train', 'test'):
        dataset = config[f'{name}_dataloader'].dataset
        dataset.update(type='mmgradaug.ImageFolder', split=dataset.pop('data_prefix'))
    out = tmp_path / 'out'
    folder = saved(config, tmp_path)
    assert (
        exit_code('extract', *arguments(folder, '--width', '0.5', '--no-test', '--out', str(out)))
        == 0
    )
    script = STOCK.split('from mmengine.runner')[0].format(out=out, file=tmp_path / 'logits.pth')
    done = subprocess.run(
        [sys.executable, '-c', script], env={**os.environ, **NO_GPU}, cwd=tmp_path,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert 'mmgradaug' in Config.fromfile(out / 'subnetwork.py').custom_imports.imports


def test_blocks_with_regularizers_stay_ours(classifier, tmp_path):
    """ShakeDrop scales branches in the test too, which the stock blocks do not."""
    config = Config.fromfile(classifier / 'config.py')
    regularizers = [dict(type='ShakeDrop', last_drop_prob=0.5)]
    config.model.backbone.update(type='mmgradaug.SlimmableResNet', regularizers=regularizers)
    folder = saved(config, tmp_path)
    for width, same in (('1.0', True), ('0.5', False)):
        out = tmp_path / width
        assert (
            exit_code(
                'extract', *arguments(folder, '--width', width, '--no-test', '--out', str(out))
            )
            == 0
        )
        cfg = Config.fromfile(out / 'subnetwork.py')
        assert cfg.model.backbone.type == 'mmgradaug.SlimmableResNet'
        assert cfg.model.backbone.regularizers == regularizers
        assert (cfg.model.shapes == cfg.model.attributes == {}) == same


def test_what_has_no_top1_is_refused(classifier, tmp_path):
    config = Config.fromfile(classifier / 'config.py')
    head = config.model.head
    config.model.head = dict(
        type='MultiLabelLinearClsHead', num_classes=head.num_classes, in_channels=head.in_channels
    )
    folder, out = saved(config, tmp_path), tmp_path / 'out'
    with pytest.raises(SystemExit, match='so there is no top-1'):
        mmgradaug('extract', *arguments(folder, '--width', '0.5', '--out', str(out)))
    assert not out.exists()


def test_statistics_come_from_each_training_image_once(classifier):
    """An infinite sampler goes on, and of a last batch of one image there may be no variance."""
    options = ['--cfg-options', 'train_dataloader.batch_size=11']
    more = ['train_dataloader.sampler.type=InfiniteSampler']
    for extra, sizes in (([], [11]), (more, [11, 11])):
        args = parsed('extract', *arguments(classifier, '--width', '0.6', *options, *extra))
        images = trained.load_classifier(args, stock=True).training_images(2048)
        assert [len(batch) for batch in images] == sizes


def test_class_names_stay_with_the_weights(extracted):
    out, _ = extracted
    meta = torch.load(out / 'subnetwork.pth', weights_only=True)['meta']
    assert meta['dataset_meta'] == dict(classes=['ant', 'bee', 'cat', 'dog'])
