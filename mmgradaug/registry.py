"""Registries of scope ``mmgradaug``: children of MMEngine's, so that any OpenMMLab config can name our classes.

Write ``type='mmgradaug.GradAugClassifier'`` in a config whose ``default_scope`` is another package's.
"""

from collections.abc import Sequence
from typing import Any

from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import MODEL_WRAPPERS as MMENGINE_MODEL_WRAPPERS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import Registry

MODELS = Registry('model', parent=MMENGINE_MODELS, scope='mmgradaug')
MODEL_WRAPPERS = Registry('model wrapper', parent=MMENGINE_MODEL_WRAPPERS, scope='mmgradaug')
HOOKS = Registry('hook', parent=MMENGINE_HOOKS, scope='mmgradaug')
DATASETS = Registry('dataset', parent=MMENGINE_DATASETS, scope='mmgradaug')
TRANSFORMS = Registry('transform', parent=MMENGINE_TRANSFORMS, scope='mmgradaug')

# Not a child of MMEngine's TRANSFORMS: those change one image with its annotations inside the data
# pipeline, these draw one change for a whole batch. A mix-up by name (mmcv has a RandomResize too)
# must be an error.
BATCH_TRANSFORMS = Registry('batch transform', scope='mmgradaug')


def register_missing(registry: Registry, names: Sequence[str], problem: Exception) -> Any:
    """Stand in for classes that need MMDetection where it cannot be imported; the rest works on.

    That is without MMDetection, with one that asks for another mmcv, or with an mmcv without operators.

    Args:
        registry: where the classes would be.
        names: of the classes.
        problem: what importing them said.

    Returns:
        A function that takes anything and raises ImportError, saying what to install. It is what the
        registry gives for the names.
    """
    cause = f'{type(problem).__name__}: {problem}'

    def missing(*args: Any, **kwargs: Any) -> None:
        raise ImportError(
            f'{" and ".join(names)} need MMDetection and operators of mmcv, which cannot be imported '
            f'here ({cause}). In the folder of mmgradaug write: pip install -r requirements.txt; or in '
            "an environment of your own: pip install 'mmdet>=3.3,<4' pycocotools, and "
            'pip install ./mmcv_ext_fallback if your mmcv has no compiled operators'
        )

    for name in names:
        registry.register_module(name=name, module=missing)
    return missing
