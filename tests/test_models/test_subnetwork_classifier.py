import json

import pytest
import torch
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS

from mmgradaug.slimming import extract_subnetwork, smaller_network


@pytest.mark.parametrize(
    ('backbone', 'channels', 'kept'),
    [
        (dict(type='MobileNetV2', widen_factor=0.25), 1280, 768),  # depthwise convolutions
        (dict(type='ConvNeXt', arch='atto'), 320, 192),  # layer norms and scales
    ],
    ids=lambda value: value['type'] if isinstance(value, dict) else str(value),
)
def test_it_is_built_as_narrow_as_the_extracted_network(backbone, channels, kept):
    config = dict(
        type='ImageClassifier',
        backbone=backbone,
        neck=None if backbone['type'] == 'ConvNeXt' else dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=5, in_channels=channels),
    )
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(config)
        small = extract_subnetwork(model, 0.6)
        smaller = smaller_network(model, 0.6)
        # As a config file holds them.
        smaller = json.loads(json.dumps(dict(shapes=smaller.shapes, attributes=smaller.attributes)))
        built = MODELS.build({**config, 'type': 'mmgradaug.SubnetworkClassifier', **smaller})
    built.load_state_dict(small.state_dict(), strict=True)
    images = torch.randn(2, 3, 64, 64)
    for network in (built, small):
        network.eval()
    assert torch.equal(built(images), small(images))
    assert built.head.fc.in_features == kept and built.head.fc.out_features == 5
    for (name, one), other in zip(small.named_modules(), built.modules()):
        assert one.extra_repr() == other.extra_repr(), name
