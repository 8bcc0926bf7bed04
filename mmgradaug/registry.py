"""Registries of scope ``mmgradaug``: children of MMEngine's, so that any OpenMMLab config can name our classes.

Write ``type='mmgradaug.GradAugClassifier'`` in a config whose ``default_scope`` is another package's.
"""

import warnings
from collections.abc import Sequence
from typing import Any, Union

from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import MODEL_WRAPPERS as MMENGINE_MODEL_WRAPPERS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import Registry

from mmgradaug.arguments import refuse_unknown_keys
from mmgradaug.subnets import (
    Compose,
    Identity,
    RandomCrop,
    RandomResize,
    RandomRotate90,
    RandomScale,
    TorchvisionTransform,
    check_batch_transform,
)

# MMDetection, which our classes import, imports imagecorruptions where it is installed; nobody here can mend that.
warnings.filterwarnings('ignore', 'pkg_resources is deprecated as an API', UserWarning)

# Where the classes are; imported when a type of ours is first looked up.
_MODELS, _ENGINE, _DATASETS = ['mmgradaug.models'], ['mmgradaug.engine'], ['mmgradaug.datasets']

MODELS = Registry('model', parent=MMENGINE_MODELS, scope='mmgradaug', locations=_MODELS)
MODEL_WRAPPERS = Registry(
    'model wrapper', parent=MMENGINE_MODEL_WRAPPERS, scope='mmgradaug', locations=_ENGINE
)
HOOKS = Registry('hook', parent=MMENGINE_HOOKS, scope='mmgradaug', locations=_ENGINE)
DATASETS = Registry('dataset', parent=MMENGINE_DATASETS, scope='mmgradaug', locations=_DATASETS)
TRANSFORMS = Registry(
    'transform', parent=MMENGINE_TRANSFORMS, scope='mmgradaug', locations=_DATASETS
)

# Not a child of MMEngine's TRANSFORMS: those change one image with its annotations inside the data
# pipeline, these draw one change for a whole batch. A mix-up by name (mmcv has a RandomResize too)
# must be an error.
BATCH_TRANSFORMS = Registry('batch transform', scope='mmgradaug')
for _kind in (
    Compose,
    Identity,
    RandomCrop,
    RandomResize,
    RandomRotate90,
    RandomScale,
    TorchvisionTransform,
):
    BATCH_TRANSFORMS.register_module(module=_kind)


def build_batch_transform(transform: Union[dict[str, Any], list[Any], Any]) -> Any:
    """A batch transform from its config; a list means one after the other.

    Raises:
        KeyError: no batch transform of this name is registered.
        TypeError: the object has no ``draw(rng)``, or a key is unknown.
    """
    if isinstance(transform, (list, tuple)):
        return check_batch_transform([build_batch_transform(each) for each in transform])
    if isinstance(transform, dict):
        kind = transform.get('type')
        registered = BATCH_TRANSFORMS.get(kind) if isinstance(kind, str) else None
        if registered is not None:
            options = [key for key in transform if key != 'type']
            refuse_unknown_keys(f'batch transform {registered.__name__}', options, registered)
        if registered is Compose:
            return Compose([build_batch_transform(each) for each in transform['transforms']])
        # Whatever default_scope a config sets, the name is looked up among the batch transforms.
        transform = BATCH_TRANSFORMS.build({'_scope_': 'mmgradaug', **transform})
    return check_batch_transform(transform)


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
