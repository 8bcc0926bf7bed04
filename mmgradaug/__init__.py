"""GradAug (Yang, Zhu, Chen, NeurIPS 2020) for OpenMMLab.

Importing this package registers its classes under the scope ``mmgradaug``; in a config write
``custom_imports = dict(imports=['mmgradaug'], allow_failed_imports=False)``.
"""

from . import datasets, engine, evaluation, models, slimming, subnets
from .checkpoint import allow_checkpoint_globals, never_run_config_text
from .version import __version__

allow_checkpoint_globals()
never_run_config_text()

__all__ = ['__version__', 'datasets', 'engine', 'evaluation', 'models', 'slimming', 'subnets']
