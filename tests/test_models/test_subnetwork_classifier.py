import torch
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS

from mmgradaug.models import slim_classifier
from mmgradaug.slimming import extract_subnetwork, subnetwork_channels

STOCK = dict(
    type='ImageClassifier',
    backbone=dict(type='MobileNetV2', widen_factor=0.25),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=5, in_channels=1280),
)


def test_it_is_built_as_narrow_as_the_extracted_network():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(STOCK)
        slim_classifier(model)
        small = extract_subnetwork(model, 0.6)
        channels = {name: list(kept) for name, kept in subnetwork_channels(model, 0.6).items()}
        built = MODELS.build(
            {**STOCK, 'type': 'mmgradaug.SubnetworkClassifier', 'channels': channels}
        )
    built.load_state_dict(small.state_dict(), strict=True)
    images = torch.randn(2, 3, 32, 32)
    for network in (built, small):
        network.eval()
    assert torch.equal(built(images), small(images))
    assert built.head.fc.in_features == 768 and built.head.fc.out_features == 5
