"""GradAug (Yang, Zhu, Chen, NeurIPS 2020) for PyTorch and OpenMMLab.

In a training loop of PyTorch: :class:`GradAug`. In a config of OpenMMLab write
``custom_imports = dict(imports=['mmgradaug'], allow_failed_imports=False)``, which registers our classes
under the scope ``mmgradaug``. This import needs PyTorch and numpy alone; whatever else a class needs
(MMEngine, MMPretrain, MMDetection) is imported when its type is first looked up.
"""

import importlib.util

from .slimming import SlimmingError, extract_subnetwork, plan_channels, subnetwork
from .subnets import (
    Compose,
    Identity,
    RandomCrop,
    RandomResize,
    RandomRotate90,
    RandomScale,
    SoftLabelLoss,
    TorchvisionTransform,
    preset,
    soft_label_loss,
)
from .training import GradAug
from .version import __version__

if importlib.util.find_spec('mmengine') is not None:
    from . import registry  # noqa: F401  creates the registries of scope mmgradaug
    from .checkpoint import allow_checkpoint_globals, never_run_config_text

    allow_checkpoint_globals()
    never_run_config_text()

__all__ = [
    'Compose',
    'GradAug',
    'Identity',
    'RandomCrop',
    'RandomResize',
    'RandomRotate90',
    'RandomScale',
    'SlimmingError',
    'SoftLabelLoss',
    'TorchvisionTransform',
    '__version__',
    'extract_subnetwork',
    'plan_channels',
    'preset',
    'soft_label_loss',
    'subnetwork',
]
