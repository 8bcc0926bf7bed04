"""Test-time augmentation of any config, as MMPretrain's and MMDetection's own tools have it."""

import copy

from mmengine.config import Config
from mmpretrain.models.classifiers import BaseClassifier
from mmpretrain.registry import MODELS

from mmgradaug.config_types import default_scope, is_a
from mmgradaug.wrapped_datasets import inner_configs


def add_tta(cfg: Config) -> None:
    """Make a config test with augmentation: ``tta_model`` around its model, ``tta_pipeline`` for its test set.

    A classifier's config that names none gets MMPretrain's default: the image and its mirror image, scores
    averaged.

    Raises:
        ValueError: another model's config lacks one of the two.
    """
    scope = default_scope(cfg, 'mmpretrain')
    named = [key for key in ('tta_model', 'tta_pipeline') if key in cfg]
    if len(named) < 2 and not is_a(cfg.model, BaseClassifier, MODELS, scope):
        raise ValueError(
            'the config has no tta_model and tta_pipeline, and only for classifiers there is a default: '
            'write both, as mmdet::retinanet/retinanet_tta.py does for detectors'
        )
    model = copy.deepcopy(cfg.model)
    if model.get('data_preprocessor') is None and cfg.get('data_preprocessor') is not None:
        model['data_preprocessor'] = copy.deepcopy(cfg.data_preprocessor)
    tta_model = cfg.get('tta_model') or dict(type='mmpretrain.AverageClsScoreTTA')
    cfg.model = dict(copy.deepcopy(dict(tta_model)), module=model)
    for dataset in inner_configs(cfg.test_dataloader.dataset):
        if 'tta_pipeline' in cfg:
            dataset['pipeline'] = copy.deepcopy(cfg.tta_pipeline)
            continue
        *steps, pack = dataset['pipeline']
        flips = [dict(type='mmpretrain.RandomFlip', prob=prob) for prob in (1.0, 0.0)]
        both = dict(type='mmcv.TestTimeAug', transforms=[flips, [pack]])
        dataset['pipeline'] = [*steps, both]
