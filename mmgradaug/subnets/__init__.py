"""Which sub-networks an iteration trains, on which transformed batch, against which soft labels."""

from .sampler import Subnet, SubnetSampler
from .soft_label_loss import SoftLabelLoss, soft_label_loss
from .transforms import (
    BatchOperation,
    Chain,
    Compose,
    Crop,
    Identity,
    NoChange,
    RandomCrop,
    RandomResize,
    RandomRotate90,
    RandomScale,
    Resize,
    Rotate90,
    Scale,
    TorchvisionOperation,
    TorchvisionTransform,
    build_batch_transform,
)

__all__ = [
    'BatchOperation',
    'Chain',
    'Compose',
    'Crop',
    'Identity',
    'NoChange',
    'RandomCrop',
    'RandomResize',
    'RandomRotate90',
    'RandomScale',
    'Resize',
    'Rotate90',
    'Scale',
    'SoftLabelLoss',
    'Subnet',
    'SubnetSampler',
    'TorchvisionOperation',
    'TorchvisionTransform',
    'build_batch_transform',
    'soft_label_loss',
]
