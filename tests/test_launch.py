"""Which checkpoints fit a model."""

import pytest
import torch
from mmpretrain.models import AverageClsScoreTTA, ImageClassifier, VisionTransformer

from mmgradaug.launch import check_fits


def vit(pixels):
    torch.manual_seed(pixels)
    arch = dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=32)
    return VisionTransformer(arch, img_size=pixels, patch_size=16)


def save(path, weights):
    torch.save(dict(state_dict=weights), path)
    return str(path)


def test_position_embeddings_of_another_size_are_resized_by_loading_itself(tmp_path):
    file = save(tmp_path / 'vit.pth', vit(64).state_dict())
    check_fits(vit(96), file, 'x.py')
    wider = vit(64).state_dict()
    wider['ln1.weight'] = torch.ones(17)
    del wider['ln1.bias']
    wider['more'] = torch.zeros(2)
    with pytest.raises(SystemExit) as error:
        check_fits(vit(96), save(tmp_path / 'vit.pth', wider), 'x.py')
    assert str(error.value).splitlines()[1:] == [
        '  3 of 19 weights differ, the rest fits',
        '  ln1.bias: missing in the checkpoint, (16,) in the model',
        '  ln1.weight: (17,) in the checkpoint, (16,) in the model',
        '  more: (2,) in the checkpoint, unknown in the model',
    ]


@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_a_model_for_test_time_augmentation_takes_its_modules_checkpoint(tmp_path, prefix):
    model = ImageClassifier(dict(type='mmpretrain.ResNet', depth=18, base_channels=8))
    weights = {f'{prefix}{name}': value for name, value in model.state_dict().items()}
    check_fits(AverageClsScoreTTA(model), save(tmp_path / 'x.pth', weights), 'x.py')
