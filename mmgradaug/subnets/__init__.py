"""Which sub-networks an iteration trains, on which transformed batch, against which soft labels.

This package needs PyTorch and numpy alone.
"""

from .batch import Batch, BatchPart, ImageBatch
from .batch_operations import (
    BatchOperation,
    Chain,
    Crop,
    NoChange,
    Resize,
    Rotate90,
    Scale,
    TorchvisionOperation,
)
from .presets import preset, with_preset
from .sampler import Subnet, SubnetSampler
from .schedule import Schedule
from .soft_label_loss import SoftLabelLoss, check_soft_labels_switch, soft_label_loss
from .transforms import (
    BatchTransform,
    Compose,
    Identity,
    RandomCrop,
    RandomResize,
    RandomRotate90,
    RandomScale,
    TorchvisionTransform,
    check_batch_transform,
    drawn_sizes,
)

__all__ = [
    'Batch',
    'BatchOperation',
    'BatchPart',
    'BatchTransform',
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
    'Schedule',
    'SoftLabelLoss',
    'Subnet',
    'SubnetSampler',
    'TorchvisionOperation',
    'TorchvisionTransform',
    'check_batch_transform',
    'check_soft_labels_switch',
    'drawn_sizes',
    'preset',
    'soft_label_loss',
    'with_preset',
]
