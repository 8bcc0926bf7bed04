"""Which sub-networks an iteration trains, on which transformed batch, against which soft labels.

This package needs PyTorch and numpy alone.
"""

from .batch import Batch, ImageBatch
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
    check_batch_transform,
    drawn_sizes,
)

__all__ = [
    'Batch',
    'BatchOperation',
    'Chain',
    'Compose',
    'Crop',
    'Identity',
    'ImageBatch',
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
    'check_batch_transform',
    'drawn_sizes',
    'soft_label_loss',
]
