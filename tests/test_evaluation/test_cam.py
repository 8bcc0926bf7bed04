"""mmgradaug cam: maps whose answer is known, and real runs."""

import numpy as np
import pytest
import torch
from command_line import exit_code, mmgradaug, parsed, run_mmgradaug
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.models import ImageClassifier
from mmpretrain.registry import MODELS
from PIL import Image
from torch import nn

from mmgradaug.evaluation import cam as tool
from mmgradaug.evaluation import trained_classifier as trained
from mmgradaug.launch import parse_options


def arguments(classifier, image, *more):
    files = [classifier / 'config.py', classifier / 'weights.pth', image]
    return [*map(str, files), '--device', 'cpu', *more]


class HandBuilt(nn.Module):
    """The three channels of the image are the feature map: no weight changes them."""

    def __init__(self):
        super().__init__()
        self.stage = nn.Conv2d(3, 3, 1, bias=False)
        self.stage.weight.data = torch.eye(3).view(3, 3, 1, 1)

    def forward(self, x):
        return (self.stage(x),)


def hand_built(weights):
    """Class scores are weighted means of the channels."""
    head = dict(type='mmpretrain.LinearClsHead', num_classes=len(weights), in_channels=3)
    neck = dict(type='mmpretrain.GlobalAveragePooling')
    model = ImageClassifier(
        backbone=HandBuilt(),
        neck=neck,
        head=head,
        data_preprocessor=MODELS.build(dict(type='mmpretrain.ClsDataPreprocessor')),
    )
    model.head.fc.weight.data = torch.tensor(weights)
    model.head.fc.bias.data.zero_()
    return model.eval()


def test_the_map_of_a_hand_built_network_is_known():
    weights = [[1.0, 0.0, 0.0], [0.0, 1.0, -0.5], [-1.0, 0.0, 0.0]]
    model = hand_built(weights)
    image = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    for target, row in enumerate(weights):
        # Grad-CAM (arXiv:1610.02391, Eq. 1 and 2): the weights are the mean gradients, w / (6 * 6).
        expected = sum(w * image[0, c] for c, w in enumerate(row)).clamp(min=0).numpy()
        if expected.max() > 0:
            expected = (expected - expected.min()) / (expected.max() - expected.min())
        found = tool.class_map(model, image, 'backbone.stage', target)
        np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.all(found == 0)  # nothing speaks for the last class
    assert all(p.grad is None for p in model.parameters()) and not model.training


def test_the_layer_is_the_one_that_gives_the_last_map(classifier):
    assert (
        tool.last_layer(hand_built([[1.0, 0.0, 0.0]]), torch.zeros(1, 3, 4, 4)) == 'backbone.stage'
    )
    one = trained.load_classifier(parsed('cam', *arguments(classifier, 'x')))
    layer = tool.last_layer(one.model, torch.zeros(1, 3, 32, 32))
    assert layer.startswith('backbone.layer4')


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / 'photos'
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, mode in (('one.png', 'RGB'), ('grey.jpg', 'L'), ('clear.png', 'RGBA')):
        pixels = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((70, 50), Image.BILINEAR).convert(mode).save(folder / name)
    (folder / 'notes.txt').write_text('no image')
    return folder


def test_baseline_sub_networks_and_full_network_side_by_side(classifier, photos, tmp_path):
    out = tmp_path / 'out'
    files = [str(classifier / 'config.py'), str(classifier / 'weights.pth')]
    options = ['--width', '0.5', '0.9', '--baseline', *files, '--out', str(out)]
    code, output = run_mmgradaug('cam', *arguments(classifier, photos, *options))
    assert code == 0, output
    assert sorted(p.name for p in out.iterdir()) == [
        'clear_cam.png', 'grey_cam.png', 'one_cam.png', 'overview.png'
    ]  # fmt: skip
    (head,) = [line for line in output.splitlines() if 'sub-network, w = 0.5' in line]
    assert 'baseline' in head and 'sub-network, w = 0.9' in head and 'full network' in head
    # The same weights as baseline: the same prediction.
    (line,) = [line for line in output.splitlines() if line.startswith('grey.jpg')]
    cells = [cell.strip() for cell in line.split('%')]
    assert cells[0].split()[1:] == cells[-2].split() and cells[-2].split()[0] in 'ant bee cat dog'
    assert 'measured on 12 training images' in output
    shapes = {path.name: Image.open(path).size for path in out.iterdir()}
    assert shapes['one_cam.png'][0] > 2 * shapes['one_cam.png'][1]  # five columns
    assert shapes['overview.png'][1] > 2 * shapes['one_cam.png'][1]  # three rows


def test_a_class_by_its_name(classifier, photos, tmp_path, capsys):
    out = ['--out', str(tmp_path / 'out')]
    assert (
        exit_code('cam', *arguments(classifier, photos / 'one.png', '--target', 'cat', *out)) == 0
    )
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith('one.png')]
    one = trained.load_classifier(parsed('cam', *arguments(classifier, 'x')))
    with torch.no_grad():
        scores = one.model(tool.preprocess(one, photos / 'one.png')).softmax(1)[0]
    assert line.split()[1:] == ['cat', f'{100 * scores[2]:.1f}', '%']


def test_the_network_sees_what_it_sees_in_a_test(classifier):
    """A file of the test set gives the tensor that the test set gives."""
    one = trained.load_classifier(parsed('cam', *arguments(classifier, 'x')))
    inputs = next(iter(one.batches(one.loader(one.test_set()))))[0]
    for i, name in enumerate(('n0/0.png', 'n0/1.png', 'n1/0.png')):
        found = tool.preprocess(one, classifier / 'test' / name)
        assert torch.equal(found[0], inputs[i])
        picture = tool.as_picture(one, found)
        mean, std = one.model.data_preprocessor.mean, one.model.data_preprocessor.std
        expected = ((found[0] * std + mean) / 255).permute(1, 2, 0)
        np.testing.assert_allclose(picture, expected, atol=1e-5)


@pytest.mark.parametrize(
    ('image', 'options', 'says'),
    [
        ('gone.png', [], 'no such image or folder'),
        ('empty', [], 'has no image'),
        ('broken', [], 'broken.png cannot be read as an image'),
        (
            'photos/one.png',
            ['--target', 'cow'],
            '--target cow is no class: ant, bee, cat, dog; or a number',
        ),
        ('photos/one.png', ['--layer', 'backbone.layer9'], '--layer: .*layer9'),
        ('photos/one.png', ['--layer', 'neck'], '--layer neck gives no feature map'),
    ],
)
def test_wrong_input_is_named(classifier, photos, tmp_path, image, options, says, capsys):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'broken').mkdir()
    (tmp_path / 'broken' / 'broken.png').write_bytes(b'no image at all')
    out = tmp_path / 'out'
    assert (
        exit_code('cam', *arguments(classifier, tmp_path / image, *options, '--out', str(out))) == 1
    )
    import re

    assert re.search(says, capsys.readouterr().err)
    assert not out.exists()


def test_a_wrong_checkpoint(classifier, photos, tmp_path):
    wrong = [str(classifier / 'config.py'), str(classifier / 'wrong.pth'), str(photos)]
    with pytest.raises(SystemExit, match='is not a checkpoint of'):
        mmgradaug('cam', *wrong, '--out', str(tmp_path / 'out'))


def load_changed(classifier, tmp_path, *more):
    """The tiny network with options, of weights of its own."""
    args = parsed('cam', *arguments(classifier, 'x', '--cfg-options', *more))
    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(parse_options(more))
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build({**cfg.model, 'data_preprocessor': cfg.data_preprocessor})
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'weights.pth')
    args.checkpoint = str(tmp_path / 'weights.pth')
    return trained.load_classifier(args)


GREY = [
    'model.backbone.in_channels=1',
    'data_preprocessor.mean=[120]',
    'data_preprocessor.std=[60]',
]
LOADED = 'test_dataloader.dataset.pipeline.0.color_type='


@pytest.mark.parametrize(
    'options',
    [
        [*GREY, 'data_preprocessor.to_rgb=False', f'{LOADED}grayscale'],
        ['data_preprocessor.to_rgb=False'],
        [f'{LOADED}color_ignore_orientation'],
    ],
    ids=['one channel', 'bgr', 'unrotated'],
)
def test_images_are_loaded_as_the_config_says(classifier, tmp_path, options):
    """Files of the test set, one of them with EXIF's orientation, give the test set's own tensors."""
    root = tmp_path / 'data'
    for label in range(4):
        (root / 'test' / f'n{label}').mkdir(parents=True)
        image = Image.open(classifier / 'test' / f'n{label}' / '0.png').convert('RGB')
        exif = Image.Exif()
        exif[0x0112] = 6 if label == 1 else 1  # turned by a quarter
        image.save(root / 'test' / f'n{label}' / '0.jpg', exif=exif, quality=95)
    options = [*options, f'test_dataloader.dataset.data_root={root}']
    one = load_changed(classifier, tmp_path, *options)
    inputs = torch.cat([batch for batch, _ in one.batches(one.loader(one.test_set()))])
    for label in range(4):
        file = root / 'test' / f'n{label}' / '0.jpg'
        found = tool.preprocess(one, file)
        assert torch.equal(found[0], inputs[label])
        picture = tool.as_picture(one, found)
        assert picture.shape == (32, 32, 3)
        if label != 1 and 'model.backbone.in_channels=1' not in options:
            # In true colours, whatever the order that the network takes.
            seen = np.asarray(Image.open(file).convert('RGB')).mean((0, 1)) / 255
            assert np.abs(picture.mean((0, 1)) - seen).max() < 0.12


def test_wrapped_test_sets(classifier, tmp_path):
    (tmp_path / 'config.py').write_text(
        (classifier / 'config.py').read_text()
        + """
half = test_dataloader['dataset']
test_dataloader['dataset'] = dict(
    type='RepeatDataset', times=1, dataset=dict(
        type='ConcatDataset',
        datasets=[dict(half, indices=[0, 1, 2]), dict(half, indices=[3, 4, 5, 6, 7])]))
"""
    )
    args = arguments(classifier, 'x')
    args[0] = str(tmp_path / 'config.py')
    one, plain = (
        trained.load_classifier(parsed('cam', *a)) for a in (args, arguments(classifier, 'x'))
    )
    file = classifier / 'test' / 'n2' / '0.png'
    assert torch.equal(tool.preprocess(one, file), tool.preprocess(plain, file))
    for limit in (0, 4):
        found, expected = (
            torch.cat([images for images, _ in its.batches(its.loader(its.test_set(), limit))])
            for its in (one, plain)
        )
        assert len(found) == (limit or 8) and torch.equal(found, expected)
