"""Configs whose types are imported classes, and what they are dumped as: dotted paths, no scope."""

import json

import numpy as np
import pytest
import torch
from command_line import exit_code
from mmengine.config import Config
from mmpretrain.models import ClsDataPreprocessor, ImageClassifier, LinearClsHead, ResNet
from PIL import Image

from mmgradaug.config_types import class_of, default_scope, is_a
from mmgradaug.evaluation import trained_classifier as trained
from mmgradaug.models import GradAugClassifier

NEW_STYLE = """
from mmcv.transforms import LoadImageFromFile
from mmengine.dataset import DefaultSampler
from mmpretrain.datasets import CenterCrop, CustomDataset, PackInputs, RandomResizedCrop, ResizeEdge
from mmpretrain.evaluation import Accuracy
from mmpretrain.models import GlobalAveragePooling, ImageClassifier, LinearClsHead, ResNet
"""


def in_new_style(text):
    """The tiny classifier's config with classes for names, and without a scope."""
    for name in ('LoadImageFromFile', 'DefaultSampler', 'CenterCrop', 'CustomDataset', 'PackInputs',
                 'RandomResizedCrop', 'ResizeEdge', 'Accuracy', 'GlobalAveragePooling',
                 'ImageClassifier', 'LinearClsHead', 'ResNet'):  # fmt: skip
        assert f"type='{name}'" in text
        text = text.replace(f"type='{name}'", f'type={name}')
    return NEW_STYLE + text.replace("default_scope = 'mmpretrain'", 'default_scope = None')


@pytest.fixture(params=['classes', 'dotted paths'])
def config(request, classifier, tmp_path):
    file = tmp_path / 'new.py'
    file.write_text(in_new_style((classifier / 'config.py').read_text()))
    if request.param == 'dotted paths':
        Config.fromfile(file).dump(tmp_path / 'dumped.py')
        file = tmp_path / 'dumped.py'
        assert 'mmpretrain.models.' in file.read_text()
    return file


@pytest.mark.parametrize(
    ('command', 'options', 'result'),
    [
        ('fgsm', ['--eps', '0.1', '--space', 'pixel'], 'fgsm.json'),
        ('width-curve', ['--widths', '0.5', '--recalibrate', '4'], 'width_curve.json'),
        ('extract', ['--width', '0.5', '--recalibrate', '4'], 'subnetwork.json'),
        (
            'robustness',
            ['--severities', '1', '--corruptions', 'fog', 'contrast'],
            'robustness.json',
        ),
        ('cam', ['--width', '0.5', '--recalibrate', '4'], '0_cam.png'),
    ],
)
def test_every_command_does_what_it_does_with_names(
    command, options, result, config, classifier, tmp_path
):
    found = []
    for file in (config, classifier / 'config.py'):
        out = tmp_path / file.stem
        images = [str(classifier / 'test' / 'n0' / '0.png')] if command == 'cam' else []
        arguments = [str(file), str(classifier / 'weights.pth'), *images, '--device', 'cpu']
        assert exit_code(command, *arguments, *options, '--name', 'x', '--out', out) == 0
        found.append((out / result).read_bytes())
    if command == 'cam':
        pictures = [
            np.asarray(Image.open(tmp_path / f.stem / result))
            for f in (config, classifier / 'config.py')
        ]
        assert np.array_equal(*pictures)
        return
    ours, named = (numbers(json.loads(text)) for text in found)
    assert len(ours) >= 2 and ours == named
    if command == 'extract':
        extracted = Config.fromfile(tmp_path / config.stem / 'subnetwork.py')
        model = trained.MODELS.build(extracted.model)
        assert model.backbone.conv1.out_channels == 4


def numbers(part, name=''):
    """Of a result file, by path; times and files' sizes aside."""
    if isinstance(part, (dict, list)):
        items = part.items() if isinstance(part, dict) else enumerate(part)
        return {k: v for key, value in items for k, v in numbers(value, f'{name}/{key}').items()}
    measured = any(word in name for word in ('latency', 'second', 'time', 'megabytes'))
    return {} if measured or not isinstance(part, (int, float)) else {name: part}


def test_ours_become_stock_however_they_are_written():
    for kind in (GradAugClassifier, 'mmgradaug.GradAugClassifier',
                 'mmgradaug.models.gradaug_classifier.GradAugClassifier'):  # fmt: skip
        model = dict(
            type=kind,
            backbone=dict(
                type='mmgradaug.models.backbones.slimmable_resnet.SlimmableResNet', depth=18
            ),
            head=dict(type=LinearClsHead, num_classes=4),
            data_preprocessor=dict(type=ClsDataPreprocessor),
            gradaug=dict(),
        )
        found = trained.stock_config(model)
        assert class_of(found, trained.MODELS, 'mmpretrain') is ImageClassifier
        assert class_of(found['backbone'], trained.MODELS, 'mmpretrain') is ResNet
        assert found['head']['type'] is LinearClsHead and 'gradaug' not in found


def test_which_class_a_config_is_of():
    registry = trained.MODELS
    assert class_of(dict(type='mmpretrain.ResNet'), registry) is ResNet
    assert class_of('ResNet', registry, 'mmpretrain') is ResNet
    assert class_of('mmpretrain.models.backbones.resnet.ResNet', registry) is ResNet
    assert class_of(dict(), registry) is None and class_of('NoSuch', registry, 'mmpretrain') is None
    assert is_a(dict(type=GradAugClassifier), ImageClassifier, registry)
    assert not is_a(dict(type='NoSuch'), ImageClassifier, registry, 'mmpretrain')
    assert default_scope(dict(default_scope=None), 'mmdet') == 'mmdet'
    assert default_scope(dict(default_scope='mmpretrain'), 'mmdet') == 'mmpretrain'
    assert torch.nn.Module in class_of(ResNet, registry).__mro__
