"""evaluation/trained_classifier.py: loading, digests, parts of a test set, result files."""

import argparse

import numpy as np
import pytest
import torch
from command_line import parsed
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS

from mmgradaug.evaluation import parsers
from mmgradaug.evaluation import trained_classifier as trained
from mmgradaug.files import write_json
from mmgradaug.loading import unwrapped


def load(folder, *more, stock=False):
    arguments = [str(folder / 'config.py'), str(folder / 'weights.pth'), '--device', 'cpu', *more]
    return trained.load_classifier(parsed('fgsm', *arguments), stock=stock)


def test_a_classifier_with_its_test_images(classifier):
    one = load(classifier, '--name', 'mine', '--batch-size', '5')
    assert (one.name, one.classes) == ('mine', ['ant', 'bee', 'cat', 'dog'])
    assert not one.model.training
    batches = list(one.batches(one.loader(one.test_set())))
    assert [len(labels) for _, labels in batches] == [5, 3]
    assert torch.cat([labels for _, labels in batches]).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    # Preprocessed: (pixels - mean) / std, in RGB; a grey image has three equal channels.
    grey = batches[1][0][-1] * one.model.data_preprocessor.std + one.model.data_preprocessor.mean
    torch.testing.assert_close(grey[0], grey[2], rtol=1e-4, atol=1e-2)
    images = torch.cat([inputs for inputs, _ in batches])
    labels = torch.cat([labels for _, labels in batches])
    with torch.no_grad():
        expected = 100 * (one.model(images).argmax(1) == labels).double().mean()
    assert one.accuracy(one.model, one.loader(one.test_set()), 'x') == pytest.approx(expected)


def test_a_part_of_the_test_set_is_spread_over_the_classes(classifier):
    one = load(classifier)
    loader = one.loader(one.test_set(), 4)
    assert [int(label) for _, labels in one.batches(loader) for label in labels] == [0, 1, 2, 3]
    assert len(one.loader(one.test_set(), 100).dataset) == 8


def test_training_images_are_augmented_and_not_mixed(classifier):
    cutmix = 'model.train_cfg.augments={type:CutMix,alpha:1.0}'
    one = load(classifier, '--cfg-options', 'data_preprocessor.to_onehot=True')
    images = one.training_images(6)
    assert [tuple(batch.shape) for batch in images] == [(4, 3, 32, 32)] * 2
    assert not images[0].requires_grad and cutmix
    again = load(classifier, '--cfg-options', 'data_preprocessor.to_onehot=True').training_images(
        100
    )
    assert [len(batch) for batch in again] == [4, 4, 4]


def test_the_digest_is_of_what_is_in_the_weights(classifier):
    one, again = load(classifier), load(classifier, '--name', 'other')
    assert one.identity['weights'] == again.identity['weights']
    with torch.no_grad():
        again.model.backbone.bn1.running_mean[0] += 1e-3
    assert one.identity['weights'] != again.identity['weights']


def test_gradaug_and_stock_are_the_same_network(classifier, tmp_path):
    config = (classifier / 'config.py').read_text()
    config = config.replace("type='ImageClassifier',", """type='mmgradaug.GradAugClassifier',
    gradaug=dict(num_subnets=1, min_width=0.5, transforms=dict(type='Identity')),""")  # fmt: skip
    config = config.replace("type='ResNet'", "type='mmgradaug.SlimmableResNet'")
    (tmp_path / 'config.py').write_text(config)
    (tmp_path / 'weights.pth').write_bytes((classifier / 'weights.pth').read_bytes())
    ours, stock = load(tmp_path), load(tmp_path, stock=True)
    assert type(ours.model).__name__ == 'GradAugClassifier'
    assert type(stock.model).__name__ == 'ImageClassifier'
    assert type(stock.model.backbone).__name__ == 'ResNet'
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(ours.logits(images), stock.logits(images))


@pytest.mark.parametrize('wrapped', [False, True], ids=['plain', 'test-time augmentation'])
def test_a_vit_at_another_size_fits_also_inside_test_time_augmentation(tmp_path, wrapped):
    """Its position embedding is resized by a hook while it is loaded."""

    def vit(pixels, width=48):
        arch = dict(embed_dims=width, num_layers=1, num_heads=4, feedforward_channels=2 * width)
        backbone = dict(type='VisionTransformer', arch=arch, img_size=pixels, patch_size=8)
        head = dict(type='VisionTransformerClsHead', num_classes=4, in_channels=width)
        config = dict(type='ImageClassifier', backbone=backbone, head=head)
        if wrapped:
            config = dict(type='mmpretrain.AverageClsScoreTTA', module=config)
        return MODELS.build(config)

    init_default_scope('mmpretrain')
    weights = unwrapped(vit(32)).state_dict()
    torch.save(dict(state_dict=weights), tmp_path / 'vit.pth')
    model = vit(64)
    assert unwrapped(model).backbone.pos_embed.shape != weights['backbone.pos_embed'].shape
    trained.check_fits(model, str(tmp_path / 'vit.pth'), 'config.py')
    with pytest.raises(SystemExit, match='is not a checkpoint of config.py'):
        trained.check_fits(vit(64, width=32), str(tmp_path / 'vit.pth'), 'config.py')


def test_wrong_weights_and_missing_data_are_named(classifier, tmp_path):
    with pytest.raises(SystemExit, match='no such checkpoint'):
        args = argparse.Namespace(
            config=str(classifier / 'config.py'), checkpoint='x.pth', cfg_options=[]
        )
        trained.load_classifier(args)
    (tmp_path / 'file').touch()
    args.out = tmp_path / 'file' / 'results'
    with pytest.raises(SystemExit, match='file/results cannot be written to.*--out DIR'):
        trained.load_classifier(args)
    one = load(classifier, '--cfg-options', 'test_dataloader.dataset.data_root=nowhere')
    with pytest.raises(
        SystemExit, match='the test set cannot be read.*\n.*test_dataloader.dataset.data_root=DIR'
    ):
        one.test_set()


def test_result_files_are_those_of_the_tool(tmp_path):
    file = tmp_path / 'deep' / 'a.json'
    write_json(file, dict(kind='fgsm', x=1))
    assert trained.read_results([file], 'fgsm') == [dict(kind='fgsm', x=1)]
    assert [path.name for path in file.parent.iterdir()] == ['a.json']
    for text, says in (
        ('{}', 'is no such result'),
        ('[1]', 'is no such result'),
        ('no', 'is not JSON'),
    ):
        file.write_text(text)
        with pytest.raises(SystemExit, match=says):
            trained.read_results([file], 'fgsm')
    with pytest.raises(SystemExit, match='No such file'):
        trained.read_results([tmp_path / 'b.json'], 'fgsm')


@pytest.mark.parametrize('text', ['0', '-1', 'x', '1.5'])
def test_numbers_of_arguments(text):
    with pytest.raises(argparse.ArgumentTypeError, match='whole number from 1'):
        parsers.positive(text)
    if text != 'x':
        assert parsers.positive('7') == 7
    with pytest.raises(argparse.ArgumentTypeError, match=r'a width is in \(0, 1\]'):
        parsers.width(text if text != '1.5' else '1.01')
    assert np.isclose(parsers.width('0.9'), 0.9)
