"""Fine-tuning starts from the weights that were meant, or not at all."""

import logging
from types import SimpleNamespace

import pytest
import torch
from detection import build, tiny_config
from mmengine.runner import EpochBasedTrainLoop

from mmgradaug.engine import PretrainedBackboneHook


def runner_of(checkpoint, training=True, **changes):
    config = tiny_config('MaskRCNN')
    config['backbone'].update(
        init_cfg=dict(type='Pretrained', checkpoint=str(checkpoint)), **changes
    )
    torch.manual_seed(1)
    model = build(config, initialise=False)
    loop = EpochBasedTrainLoop.__new__(EpochBasedTrainLoop) if training else dict()
    return SimpleNamespace(model=model, _train_loop=loop, logger=logging.getLogger())


@pytest.fixture(scope='module')
def backbone():
    """The weights of another network than the one that is trained."""
    return build(tiny_config('MaskRCNN'), seed=7).backbone.state_dict()


@pytest.mark.parametrize('prefix', ['', 'backbone.'])
@pytest.mark.parametrize('wrapped', [True, False])
def test_torchvisions_and_openmmlabs_files_are_loaded_whole(tmp_path, backbone, prefix, wrapped):
    weights = {prefix + name: value for name, value in backbone.items()}
    weights['fc.weight'] = torch.zeros(3, 3)
    # Older checkpoints have no numbers of batches.
    weights = {name: value for name, value in weights.items() if 'num_batches' not in name}
    torch.save(dict(state_dict=weights) if wrapped else weights, tmp_path / 'some.pth')
    runner = runner_of(tmp_path / 'some.pth')
    # What somebody wrote for another file is mended too.
    runner.model.backbone.init_cfg['prefix'] = 'encoder.'
    PretrainedBackboneHook().before_run(runner)
    logging.disable(logging.INFO)
    runner.model.init_weights()
    logging.disable(logging.NOTSET)
    for name, value in runner.model.backbone.state_dict().items():
        if 'num_batches' not in name:
            assert torch.equal(value, backbone[name]), name


def test_a_missing_file_says_which_config_produces_it(tmp_path):
    hook = PretrainedBackboneHook(produced_by='configs/imagenet/mixup_r50.py')
    message = (
        'nothing.pth is not there. It is what configs/imagenet/mixup_r50.py trains.'
        '.*--cfg-options model.backbone.init_cfg.checkpoint=PATH'
    )
    with pytest.raises(FileNotFoundError, match=message):
        hook.before_run(runner_of(tmp_path / 'nothing.pth'))


def test_testing_needs_no_pretrained_file(tmp_path):
    PretrainedBackboneHook().before_run(runner_of(tmp_path / 'nothing.pth', training=False))


def test_another_network_is_refused(tmp_path, backbone):
    torch.save(dict(state_dict=backbone), tmp_path / 'small.pth')
    with pytest.raises(ValueError, match='small.pth does not hold .* missing or of another shape'):
        PretrainedBackboneHook().before_run(runner_of(tmp_path / 'small.pth', depth=34))
    torch.save(dict(state_dict={'head.fc.weight': torch.zeros(1)}), tmp_path / 'none.pth')
    with pytest.raises(ValueError, match='100 of 100 .* conv1.weight for instance'):
        PretrainedBackboneHook().before_run(runner_of(tmp_path / 'none.pth'))


def test_from_scratch_is_said_and_other_kinds_are_refused(tmp_path, caplog):
    runner = runner_of(tmp_path / 'nothing.pth')
    runner.model.backbone.init_cfg = None
    PretrainedBackboneHook().before_run(runner)
    assert 'trained from scratch' in caplog.text
    runner.model.backbone.init_cfg = dict(type='Kaiming')
    with pytest.raises(ValueError, match="write init_cfg=dict\\(type='Pretrained'"):
        PretrainedBackboneHook().before_run(runner)
