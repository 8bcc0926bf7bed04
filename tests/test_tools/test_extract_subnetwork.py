"""A sub-network taken out of a checkpoint, against the network in its sub-network's state."""

import json
import math
import sys

import numpy as np
import pytest
import torch
from command_line import ROOT, load_tool, run
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from PIL import Image
from torch import nn

from mmgradaug.slimming import subnetwork

TOOL = ROOT / 'tools' / 'extract_subnetwork.py'
tool = load_tool('extract_subnetwork')
WIDTH = 0.6
CONFIG = """
default_scope = 'mmpretrain'
custom_imports = dict(imports=['mmgradaug'], allow_failed_imports=False)
model = dict(
    type='mmgradaug.GradAugClassifier',
    gradaug=dict(num_subnets=2, min_width=0.5, transforms=dict(type='RandomResize', sizes=[32, 28])),
    backbone={backbone},
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=3, in_channels=64, topk=(1,)),
)
data_preprocessor = dict(num_classes=3, mean=[120, 110, 100], std=[60, 50, 40], to_rgb=True)
# Without chance, so that the test sees the same images.
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='CenterCrop', crop_size=32),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    dataset=dict(type='CustomDataset', data_root='{root}/train', pipeline=pipeline),
    sampler=dict(type='DefaultSampler', shuffle=True),
)
test_dataloader = dict(
    batch_size=8,
    num_workers=0,
    dataset=dict(type='CustomDataset', data_root='{root}/test', pipeline=pipeline),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
test_evaluator = dict(type='Accuracy', topk=(1,))
test_cfg = dict()
"""
BACKBONES = dict(
    stock="dict(type='ResNet', depth=18, base_channels=8, stem_channels=8)",
    ours="dict(type='mmgradaug.WideResNet', depth=10, widen_factor=1, norm_at_end=True)",
)
# What a user without mmgradaug writes; the checkpoint has to be all.
STOCK_USER = """
import sys
sys.modules['mmgradaug'] = None  # an import of it fails
import torch
from mmpretrain import get_model
model = get_model(sys.argv[1], pretrained=sys.argv[2])
torch.save(model(torch.load(sys.argv[3])), sys.argv[4])
assert not [name for name in sys.modules if name.startswith('mmgradaug.')]
"""


def build(config):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        cfg = Config.fromfile(config)
        return MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor))


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """Images of three classes, two configs, and a checkpoint of each with statistics of its images."""
    root = tmp_path_factory.mktemp('extract')
    rng = np.random.default_rng(0)
    for split, number in (('train', 8), ('test', 7)):
        for label in range(3):
            folder = root / split / f'class{label}'
            folder.mkdir(parents=True)
            for i in range(number):
                pixels = rng.integers(0, 150, (36, 40, 3), dtype=np.uint8)
                pixels[..., label] += 40
                Image.fromarray(pixels).save(folder / f'{i}.png')
    for name, backbone in BACKBONES.items():
        config = root / f'{name}.py'
        text = CONFIG.replace('{root}', str(root)).replace('{backbone}', backbone)
        config.write_text(
            text if name == 'stock' else text.replace('in_channels=64', 'in_channels=64')
        )
        torch.manual_seed(3)
        model = build(config)
        model.train()
        with torch.no_grad():
            for _ in range(20):  # moves the running statistics
                model.extract_feat(images(root, 'train'))
        torch.save(dict(state_dict=model.state_dict()), root / f'{name}.pth')
    return root


def images(root, split):
    """All of a split, as the network gets them; the classes one after another."""
    found = []
    for file in sorted(root.glob(f'{split}/*/*.png')):
        pixels = np.asarray(Image.open(file)).astype(np.float32)[2:34, 4:36]
        found.append((pixels - [120, 110, 100]) / [60, 50, 40])
    return torch.from_numpy(np.stack(found)).float().permute(0, 3, 1, 2).contiguous()


def full_network(root, name):
    model = build(root / f'{name}.py')
    state = torch.load(root / f'{name}.pth', weights_only=True)['state_dict']
    model.load_state_dict(state)
    return model.eval()


@pytest.fixture(scope='module')
def extracted(made):
    """The whole command line, once."""
    code, output = run(
        sys.executable, TOOL, made / 'stock.py', made / 'stock.pth', '--width', WIDTH, '--onnx',
        '--device', 'cpu', '--out', made / 'out',
    )  # fmt: skip
    assert code == 0, output[-3000:]
    return made / 'out', output


@pytest.fixture
def call(capsys):
    """The tool in this process: its exit code, and what it said."""

    def run_here(*arguments):
        try:
            code = tool.main([*map(str, arguments), '--device', 'cpu'])
        except SystemExit as stop:
            code = stop.code
        said = capsys.readouterr()
        return code, f'{code}\n{said.out}\n{said.err}'

    return run_here


def kept(channels):
    return math.floor(channels * WIDTH + 0.5)


def test_the_numbers_of_both_networks(made, extracted):
    out, output = extracted
    result = json.loads((out / 'subnetwork.json').read_text())
    assert result['kind'] == 'extracted' and result['width'] == WIDTH
    # ResNet-18 of 8 channels on 32 pixels: stem, stages, the 1x1 shortcuts, the head.
    for key, scale in (('full', lambda c: c), ('subnetwork', kept)):
        stages = [scale(8 * 2**i) for i in range(4)]
        layers = [(3, scale(8), 7, 16)]  # inputs, outputs, kernel, side
        before, side = scale(8), 8
        for i, channels in enumerate(stages):
            if i:
                side //= 2
                layers.append((before, channels, 1, side))
            layers += [(before, channels, 3, side), *[(channels, channels, 3, side)] * 3]
            before = channels
        macs = sum(a * b * k * k * s * s for a, b, k, s in layers) + before * 3
        weights = sum(a * b * k * k + 2 * b for a, b, k, s in layers) + before * 3 + 3
        assert result[key]['macs'] == macs and result[key]['flops'] == 2 * macs
        assert result[key]['parameters'] == weights
        assert result[key]['latency_ms'] > 0
    size = (out / 'subnetwork.pth').stat().st_size
    assert result['subnetwork']['megabytes'] == size / 1e6
    assert size < 0.6 * (made / 'stock.pth').stat().st_size
    state = torch.load(out / 'subnetwork.pth', weights_only=True)['state_dict']
    assert state['backbone.layer4.1.conv2.weight'].shape == (38, 38, 3, 3)
    for figure in (
        '0.177',
        f'{result["subnetwork"]["parameters"] / 1e6:.3f}',
        'GMACs',
        'GFLOPs (2 x MACs)',
    ):
        assert figure in output


def test_accuracies_are_those_of_the_sub_network(made, extracted):
    """By the slimmable network itself, its batch norms once with the full network's statistics."""
    out, _ = extracted
    result = json.loads((out / 'subnetwork.json').read_text())
    model = full_network(made, 'stock')
    test = images(made, 'test')
    labels = torch.arange(3).repeat_interleave(7)

    def top1(logits):
        return 100 * (logits.argmax(1) == labels).double().mean().item()

    with torch.no_grad():
        assert result['top1']['full'] == pytest.approx(top1(model(test)))
        with subnetwork(model, WIDTH):
            assert result['top1']['extracted'] == pytest.approx(top1(model(test)))
    # 24 images in 3 batches of 8: the stem's statistics need only its inputs.
    assert result['training_images'] == 24
    state = torch.load(out / 'subnetwork.pth', weights_only=True)['state_dict']
    with torch.no_grad():
        x = nn.functional.conv2d(
            images(made, 'train'), model.backbone.conv1.weight[: kept(8)], None, 2, 3
        )
    mean = state['backbone.bn1.running_mean']
    torch.testing.assert_close(mean, x.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(mean, model.backbone.bn1.running_mean[: kept(8)], rtol=1e-2)
    assert result['top1']['recalibrated'] >= result['top1']['extracted']


def test_mmpretrain_alone_loads_it(made, extracted):
    out, _ = extracted
    test = images(made, 'test')
    torch.save(test, made / 'test.pth')
    (made / 'user.py').write_text(STOCK_USER)
    code, output = run(
        sys.executable, made / 'user.py', out / 'subnetwork.py', out / 'subnetwork.pth',
        made / 'test.pth', made / 'logits.pth', cwd=made, PYTHONPATH=str(out),
    )  # fmt: skip
    assert code == 0, output[-3000:]
    logits = torch.load(made / 'logits.pth')
    # The same network without any of the tool's files: the slimmable one with these statistics.
    model = full_network(made, 'stock')
    state = torch.load(out / 'subnetwork.pth', weights_only=True)['state_dict']
    for name, value in model.state_dict().items():
        if 'running' in name:
            value[: len(state[name])] = state[name]
    with torch.no_grad(), subnetwork(model, WIDTH):
        assert torch.equal(logits, model(test))
    assert logits.std() > 0


def test_onnx_computes_the_same(made, extracted):
    import onnxruntime

    out, output = extracted
    session = onnxruntime.InferenceSession(
        str(out / 'subnetwork.onnx'), providers=['CPUExecutionProvider']
    )
    state = torch.load(out / 'subnetwork.pth', weights_only=True)['state_dict']
    model = full_network(made, 'stock')
    for name, value in model.state_dict().items():
        if 'running' in name:
            value[: len(state[name])] = state[name]
    for number in (1, 5):
        batch = images(made, 'test')[:number]
        (found,) = session.run(None, {'images': batch.numpy()})
        with torch.no_grad(), subnetwork(model, WIDTH):
            torch.testing.assert_close(torch.from_numpy(found), model(batch), rtol=1e-4, atol=1e-4)
    assert 'onnxruntime differs from PyTorch by' in output
    assert json.loads((out / 'subnetwork.json').read_text())['onnx_difference'] < 1e-4


def test_a_backbone_of_ours_and_averaged_widths(made, call):
    """Its config names mmgradaug, and the statistics are the means over the widths."""
    arguments = (made / 'ours.py', made / 'ours.pth', '--width', WIDTH, '--no-test')
    code, said = call(*arguments, '--out', made / 'one')
    assert code == 0 and 'needs mmgradaug for its backbone' in said, said
    assert sorted(p.name for p in (made / 'one').iterdir()) == [
        'subnetwork.json', 'subnetwork.pth', 'subnetwork.py',
    ]  # fmt: skip
    code, _ = call(*arguments, '--out', made / 'two', '--average-widths', WIDTH, 0.8)
    assert code == 0
    code, _ = call(*arguments[:3], 0.8, '--no-test', '--out', made / 'wide')
    assert code == 0
    one, two, wide = (
        torch.load(made / name / 'subnetwork.pth', weights_only=True)['state_dict']
        for name in ('one', 'two', 'wide')
    )
    for name, value in two.items():
        if 'running' in name:
            mean = (one[name] + wide[name][: len(value)]) / 2
            torch.testing.assert_close(value, mean, rtol=1e-6, atol=1e-7)
            assert not torch.equal(value, one[name]) or '.norm1.' in name
        elif 'num_batches' not in name:
            assert torch.equal(value, one[name])
    small = build(made / 'one' / 'subnetwork.py').eval()
    small.load_state_dict(one)
    model = full_network(made, 'ours')
    for name, value in model.state_dict().items():
        if 'running' in name:
            value[: len(one[name])] = one[name]
    test = images(made, 'test')
    with torch.no_grad(), subnetwork(model, WIDTH):
        assert torch.equal(small(test), model(test))
    assert json.loads((made / 'one' / 'subnetwork.json').read_text())['top1']['full'] is None


def test_an_earlier_result_is_replaced_on_request_alone(made, extracted, call):
    out, _ = extracted
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    code, said = call(made / 'stock.py', made / 'stock.pth', '--width', 0.5, '--out', out)
    assert code == 1 and 'has a sub-network already: use another --out, or --overwrite' in said
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.parametrize(
    ('arguments', 'says'),
    [
        (['stock.py', 'ours.pth', '--width', 0.5], 'ours.pth is not a checkpoint of'),
        (['stock.py', 'stock.py', '--width', 0.5], 'is not a checkpoint that PyTorch can read'),
        (['stock.py', 'none.pth', '--width', 0.5], 'no such checkpoint: '),
        (['none.py', 'stock.pth', '--width', 0.5], 'no such config: '),
        (['stock.py', 'stock.pth', '--width', 0], 'a width is in (0, 1], 0.9 for instance'),
        (['stock.py', 'stock.pth', '--width', 90], "got '90'"),
        (['stock.py', 'stock.pth'], 'the following arguments are required: --width'),
        (
            ['stock.py', 'stock.pth', '--width', 0.5, '--average-widths', 0.4],
            '--average-widths: 0.4 has fewer channels than --width 0.5',
        ),
        (['stock.py', 'stock.pth', '--width', 0.5, '--recalibrate', 0], 'must be a whole number from 1'),
        (
            ['stock.py', 'stock.pth', '--width', 0.5, '--cfg-options',
             'train_dataloader.dataset.data_root=/no/such'],
            'the training set cannot be read',
        ),
        (
            ['stock.py', 'stock.pth', '--width', 0.5, '--cfg-options',
             'test_dataloader.dataset.data_root=/no/such'],
            'the test set cannot be read',
        ),
    ],
)  # fmt: skip
def test_bad_input_is_named_before_anything_is_written(made, call, tmp_path, arguments, says):
    files = [made / str(argument) for argument in arguments[:2]]
    code, said = call(*files, *arguments[2:], '--out', tmp_path / 'out')
    assert code not in (None, 0) and says in said, said
    assert not (tmp_path / 'out').exists()


def test_a_network_without_sub_networks_is_refused(made, call, tmp_path):
    """ResNeXt: the first channels of a grouped convolution are none."""
    config = tmp_path / 'grouped.py'
    text = (
        (made / 'stock.py')
        .read_text()
        .replace(BACKBONES['stock'], "dict(type='ResNeXt', depth=50, groups=2, width_per_group=4)")
    )
    config.write_text(
        text.replace('in_channels=64', 'in_channels=2048')
        .replace("type='mmgradaug.GradAugClassifier'", "type='ImageClassifier'")
        .replace(text[text.index('    gradaug=') : text.index('    backbone=')], '')
    )
    torch.save(dict(state_dict=build(config).state_dict()), tmp_path / 'grouped.pth')
    code, said = call(config, tmp_path / 'grouped.pth', '--width', 0.5, '--out', tmp_path / 'out')
    assert code == 1 and 'has 2 groups on' in said, said
    assert not (tmp_path / 'out').exists()


def test_average_statistics_by_hand():
    target, *others = (nn.Sequential(nn.BatchNorm2d(n)) for n in (2, 2, 3))
    others[0][0].running_mean.copy_(torch.tensor([1.0, 2.0]))
    others[1][0].running_mean.copy_(torch.tensor([3.0, 6.0, 100.0]))
    others[1][0].running_var.copy_(torch.tensor([5.0, 3.0, 100.0]))
    tool.average_statistics(target, others)
    assert target[0].running_mean.tolist() == [2, 4]
    assert target[0].running_var.tolist() == [3, 2]
