"""tools/train.py and tools/test.py on an ImageNet-shaped folder of tiny images.

In processes of their own, one and two, they are run by the tests of the README's commands.
"""

import json
import re

import pytest
import torch
from command_line import SMALL, options, run, run_tool, scalars
from mmpretrain.models import ImageClassifier

from mmgradaug.slimming import kept_channels
from mmgradaug.subnets import RandomResize, SubnetSampler

CONFIG = 'configs/gradaug_r50_imagenet.py'


@pytest.fixture(scope='module')
def trained(imagenet, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('trained')
    code, output = run_tool(
        'train', CONFIG, '--work-dir', work_dir, '--auto-scale-lr',
        *options(imagenet),
    )  # fmt: skip
    assert code == 0, output[-3000:]
    return work_dir, output


def kept_shares(checkpoint, iteration):
    """The shares of a network's channels, those of its convolutions, that sub-networks of seed 0 keep."""
    state = torch.load(checkpoint, weights_only=True)['state_dict']
    channels = [len(value) for value in state.values() if value.dim() == 4]
    sampler = SubnetSampler(3, 0.9, RandomResize([64, 48]))
    return [
        sum(kept_channels(each, subnet.width) for each in channels) / sum(channels)
        for subnet in sampler.sample(0, iteration)
    ]


def test_the_real_config_trains_and_its_learning_rate_scales(trained):
    work_dir, output = trained
    lines = scalars(work_dir)
    assert len(lines) == 2
    assert lines[0]['lr'] == pytest.approx(0.2 * 4 / 512)
    for iteration, line in enumerate(lines):
        widths = kept_shares(work_dir / 'epoch_1.pth', iteration)
        assert [line[f'width_subnet{i}'] for i in range(3)] == pytest.approx(widths)
    assert '3 sub-networks an iteration, width 0.9 to 1, draws from seed 0' in output
    assert 'accuracy/top1' in output


def test_its_checkpoint_is_tested_and_fits_the_stock_model(trained, imagenet, tmp_path):
    checkpoint = trained[0] / 'epoch_1.pth'
    metrics = tmp_path / 'metrics.json'
    code, output = run_tool(
        'test', CONFIG, checkpoint, '--work-dir', tmp_path,
        '--out-metrics', metrics, *options(imagenet),
    )  # fmt: skip
    assert code == 0, output[-3000:]
    found = json.loads(metrics.read_text())
    trained_value = re.findall(r'accuracy/top5: ([\d.]+)', trained[1])[-1]
    assert found['accuracy/top5'] == pytest.approx(float(trained_value), abs=1e-3)
    stock = ImageClassifier(
        backbone=dict(type='mmpretrain.ResNet', depth=50),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=1000, in_channels=2048),
    )
    stock.load_state_dict(torch.load(checkpoint, weights_only=True)['state_dict'], strict=True)


def test_stopping_and_resuming_goes_on_where_it_was(imagenet, tmp_path):
    command = ['train', CONFIG, '--work-dir', tmp_path, '--no-validate']
    code, output = run_tool(*command, *options(imagenet, *SMALL))
    assert code == 0, output[-3000:]
    code, output = run_tool(
        *command, '--resume', *options(imagenet, *SMALL, 'train_cfg.max_epochs=2')
    )
    assert code == 0, output[-3000:]
    assert 'resumed epoch: 1, iter: 2' in output
    lines = scalars(tmp_path)
    assert [line['step'] for line in lines] == [3, 4]
    for line in lines:
        widths = kept_shares(tmp_path / 'epoch_2.pth', line['step'] - 1)
        assert [line[f'width_subnet{i}'] for i in range(3)] == pytest.approx(widths)


def test_a_plain_config_in_two_processes_without_a_gpu(imagenet, tmp_path):
    settings = options(imagenet, *SMALL, 'train_dataloader.batch_size=2')
    settings = [option for option in settings if 'gradaug' not in option]
    code, output = run(
        'tools/dist_train.sh', 'configs/imagenet/baseline_r50.py', 2, '--work-dir', tmp_path,
        *settings, PORT='29631',
    )  # fmt: skip
    assert code == 0, output[-3000:]
    lines = scalars(tmp_path)
    assert len(lines) == 2 and 'loss_subnet0' not in lines[0]  # 8 images, 2 a process


@pytest.mark.parametrize(
    ('command', 'says'),
    [
        (['train', 'configs/no_such.py'], 'no such config: configs/no_such.py'),
        (['train', CONFIG, '--amp'], '--amp needs a GPU'),
        (['test', CONFIG, 'no_such.pth'], 'no such checkpoint: no_such.pth'),
    ],
)
def test_wrong_command_lines(command, says, tmp_path):
    code, output = run_tool(*command, '--work-dir', tmp_path)
    assert code == 1 and says in output and 'Traceback' not in output


def test_a_checkpoint_of_another_network_is_refused(imagenet, tmp_path):
    """MMEngine would load what fits, leave the rest random, and report an accuracy."""
    torch.save(
        dict(state_dict={'backbone.conv1.weight': torch.zeros(8, 3, 7, 7)}), tmp_path / 'x.pth'
    )
    code, output = run_tool(
        'test', CONFIG, tmp_path / 'x.pth', '--work-dir', tmp_path,
        *options(imagenet, *SMALL),
    )  # fmt: skip
    assert code == 1 and 'x.pth is not a checkpoint of configs/gradaug_r50_imagenet.py' in output
    assert re.search(
        r'backbone\.bn1\.bias: missing in the checkpoint, \(64,\) in the model', output
    )
    assert 'accuracy/top1' not in output.split('is not a checkpoint')[1]


def test_help_shows_openmmlabs_flags():
    _, output = run_tool('train', '--help')
    for flag in ('--work-dir', '--resume', '--amp', '--cfg-options', '--launcher'):
        assert flag in output
    assert '--auto-scale-lr' in output and '--no-validate' in output
