"""Datasets that OpenMMLab lacks."""

from mmgradaug.registry import DATASETS, register_missing

from .cifar_c import CIFARC, cifar_c_file
from .corruptions import CORRUPTIONS, SEVERITIES, Corrupt, corrupt
from .cutout import Cutout
from .digits import Digits
from .image_folder import ImageFolder
from .imagenet_c import ImageNetC, imagenet_c_folder
from .labelled_split import LabelledSplit
from .random_images import RandomImages
from .stl10 import STL10

__all__ = [
    'CIFARC',
    'CORRUPTIONS',
    'SEVERITIES',
    'Corrupt',
    'Cutout',
    'Digits',
    'ImageFolder',
    'ImageNetC',
    'LabelledSplit',
    'RandomImages',
    'STL10',
    'Shapes',
    'cifar_c_file',
    'corrupt',
    'imagenet_c_folder',
]

try:
    from .shapes import Shapes
except (ImportError, AssertionError) as problem:
    # In place of a class a function, which raises.
    Shapes = register_missing(DATASETS, ['Shapes'], problem)  # type: ignore[misc]
