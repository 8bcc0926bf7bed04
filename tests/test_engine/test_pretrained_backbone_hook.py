"""Fine-tuning starts from the weights that were meant, or not at all."""

import logging
from types import SimpleNamespace

import pytest
import torch
from detection import build, tiny_config
from mmengine.model import PretrainedInit
from mmengine.runner import EpochBasedTrainLoop
from torch import nn

from mmgradaug.engine import PretrainedBackboneHook, WholeCheckpointHook


def runner_of(checkpoint, training=True, load_from=None, resume=False, work_dir='.', **changes):
    config = tiny_config('MaskRCNN')
    config['backbone'].update(
        init_cfg=dict(type='Pretrained', checkpoint=str(checkpoint)), **changes
    )
    torch.manual_seed(1)
    model = build(config, initialise=False)
    loop = EpochBasedTrainLoop.__new__(EpochBasedTrainLoop) if training else dict()
    return SimpleNamespace(
        model=model, _train_loop=loop, logger=logging.getLogger(),
        _load_from=load_from, _resume=resume, work_dir=str(work_dir), hooks=[],
    )  # fmt: skip


def started(runner, hook=None):
    """The backbone's weights when training begins, by the hook and MMEngine's own initialisation."""
    (hook or PretrainedBackboneHook()).before_run(runner)
    logging.disable(logging.INFO)
    runner.model.init_weights()
    logging.disable(logging.NOTSET)
    return runner.model.backbone.state_dict()


def assert_same(found, expected):
    for name, value in found.items():
        if 'num_batches' not in name:
            assert torch.equal(value, expected[name]), name


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
    assert_same(started(runner), backbone)


@pytest.mark.parametrize('prefix', ['module.', 'module.backbone.', 'encoder.', 'encoder'])
def test_ddps_files_and_prefixes_of_the_users_own(tmp_path, backbone, prefix):
    dot = '' if prefix.endswith('.') else '.'
    weights = {prefix + dot + name: value for name, value in backbone.items()}
    torch.save(dict(state_dict=weights), tmp_path / 'some.pth')
    runner = runner_of(tmp_path / 'some.pth')
    if 'encoder' in prefix:
        runner.model.backbone.init_cfg['prefix'] = prefix
    assert_same(started(runner), backbone)
    if 'encoder' in prefix:
        assert runner.model.backbone.init_cfg['prefix'] == prefix
        with pytest.raises(
            ValueError, match=r"Under 'encoder\.' it has 100 of .*prefix='encoder\.'"
        ):
            PretrainedBackboneHook().before_run(runner_of(tmp_path / 'some.pth'))


def test_a_home_folders_file(tmp_path, backbone, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    torch.save(dict(state_dict=dict(backbone)), tmp_path / 'some.pth')
    assert_same(started(runner_of('~/some.pth')), backbone)


@pytest.mark.parametrize(
    'kind', [PretrainedInit, 'mmengine.model.weight_init.PretrainedInit', 'Pretrained']
)
def test_new_style_configs_types_and_several_inits(tmp_path, backbone, kind):
    torch.save(dict(state_dict=dict(backbone)), tmp_path / 'some.pth')
    runner = runner_of(tmp_path / 'some.pth')
    file = dict(type=kind, checkpoint=str(tmp_path / 'some.pth'))
    runner.model.backbone.init_cfg = [dict(type='Kaiming', layer='Conv2d'), file]
    assert_same(started(runner), backbone)


@pytest.mark.parametrize('how', ['load_from', 'resume', 'auto'])
def test_a_run_that_loads_the_whole_model_needs_no_other_file(tmp_path, backbone, how):
    weights = {f'backbone.{name}': value for name, value in backbone.items()}
    whole = tmp_path / 'epoch_1.pth'
    torch.save(dict(state_dict=weights), whole)
    (tmp_path / 'last_checkpoint').write_text(str(whole))
    where = dict(work_dir=tmp_path) if how == 'auto' else dict(load_from=str(whole))
    runner = runner_of(tmp_path / 'nothing.pth', resume=how != 'load_from', **where)
    started(runner)
    # A head's weights alone bring no backbone.
    torch.save(dict(state_dict={'rpn_head.x': torch.zeros(1)}), whole)
    with pytest.raises(FileNotFoundError, match='nothing.pth is not there'):
        started(runner_of(tmp_path / 'nothing.pth', resume=how != 'load_from', **where))


@pytest.mark.parametrize('newest', ['damaged', 'not named'])
def test_the_checkpoint_to_resume_from_is_the_newest_whole_one(tmp_path, backbone, newest):
    """As WholeCheckpointHook has it, though that runs later."""
    weights = {f'backbone.{name}': value for name, value in backbone.items()}
    contents = dict(state_dict=weights, optimizer={}, meta=dict(time='20260101_000000', iter=9))
    torch.save(contents, tmp_path / 'epoch_1.pth')
    if newest == 'damaged':
        (tmp_path / 'epoch_2.pth').write_bytes((tmp_path / 'epoch_1.pth').read_bytes()[:2000])
        (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_2.pth'))
    runner = runner_of(tmp_path / 'nothing.pth', resume=True, work_dir=tmp_path)
    runner.hooks, runner._has_loaded = [PretrainedBackboneHook(), WholeCheckpointHook()], False
    started(runner)
    assert runner._load_from == str(tmp_path / 'epoch_1.pth')


def test_weights_that_a_module_converts_while_it_loads_are_not_missing(tmp_path, backbone):
    """As position embeddings of another size are resized."""
    torch.save(dict(state_dict={**backbone, 'bn1.weight': torch.ones(1)}), tmp_path / 'some.pth')
    with pytest.raises(ValueError, match='bn1.weight for instance'):
        started(runner_of(tmp_path / 'some.pth'))
    runner = runner_of(tmp_path / 'some.pth')
    bn1 = runner.model.backbone.bn1

    def enlarge(module, weights, prefix, *_):
        weights[f'{prefix}weight'] = weights[f'{prefix}weight'].expand(len(bn1.bias))

    bn1.register_load_state_dict_pre_hook(enlarge)
    found = started(runner)
    assert (found['bn1.weight'] == 1).all() and torch.equal(
        found['conv1.weight'], backbone['conv1.weight']
    )


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


def test_a_model_whose_backbones_are_in_its_parts_is_told_what_to_do(tmp_path):
    """As MMDetection's Soft Teacher is made."""
    runner = runner_of(tmp_path / 'nothing.pth')
    detector, runner.model = runner.model, nn.Module()
    runner.model.student = detector
    with pytest.raises(
        TypeError, match='has none, but student.backbone: leave the hook out.*min_share'
    ):
        PretrainedBackboneHook().before_run(runner)


def test_no_prefix_is_offered_that_brings_less(tmp_path, backbone):
    """A deep stem's file has no conv1.weight but those of its blocks, which are no prefixes."""
    weights = {f'backbone.{name}': value for name, value in backbone.items() if name[:4] != 'conv'}
    torch.save(dict(state_dict=weights), tmp_path / 'some.pth')
    with pytest.raises(ValueError, match=r'1 of 100 .*, backbone\.conv1\.weight for instance$'):
        PretrainedBackboneHook().before_run(runner_of(tmp_path / 'some.pth'))


@pytest.mark.parametrize('init_cfg', [None, dict(type='Kaiming'), [dict(type='Kaiming')]])
def test_from_scratch_is_said(tmp_path, caplog, init_cfg):
    """MMDetection's ResNet makes a list of its own of None."""
    runner = runner_of(tmp_path / 'nothing.pth')
    runner.model.backbone.init_cfg = init_cfg
    PretrainedBackboneHook().before_run(runner)
    assert 'trained from scratch' in caplog.text and "type='Pretrained'" in caplog.text


def test_a_backbone_that_loads_itself_is_not_called_untrained(tmp_path, caplog):
    """As MMPretrain's TIMMBackbone says of itself with pretrained=True or checkpoint_path."""
    runner = runner_of(tmp_path / 'nothing.pth')
    runner.model.backbone.init_cfg = None
    runner.model.backbone._is_init = True
    with caplog.at_level('INFO'):
        PretrainedBackboneHook().before_run(runner)
    assert 'from scratch' not in caplog.text and 'loaded its weights itself' in caplog.text
