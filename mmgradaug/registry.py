"""Registries of scope ``mmgradaug``: children of MMEngine's, so that any OpenMMLab config can name our classes.

Write ``type='mmgradaug.GradAugClassifier'`` in a config whose ``default_scope`` is another package's.
"""

from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import MODEL_WRAPPERS as MMENGINE_MODEL_WRAPPERS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import Registry

MODELS = Registry('model', parent=MMENGINE_MODELS, scope='mmgradaug')
MODEL_WRAPPERS = Registry('model wrapper', parent=MMENGINE_MODEL_WRAPPERS, scope='mmgradaug')
HOOKS = Registry('hook', parent=MMENGINE_HOOKS, scope='mmgradaug')
DATASETS = Registry('dataset', parent=MMENGINE_DATASETS, scope='mmgradaug')

# Not a child of MMEngine's TRANSFORMS: those change one image with its annotations inside the data
# pipeline, these draw one change for a whole batch. A mix-up by name (mmcv has a RandomResize too)
# must be an error.
BATCH_TRANSFORMS = Registry('batch transform', scope='mmgradaug')
