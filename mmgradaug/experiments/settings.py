"""What of a config decides over a training's result."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from mmgradaug.config_types import short_name
from mmgradaug.wrapped_datasets import inner_configs

# What decides over a result; the rest of a config is logging, or where things lie.
DECISIVE = (
    'model',
    'data_preprocessor',
    'train_dataloader',
    'val_dataloader',
    'val_evaluator',
    'optim_wrapper',
    'param_scheduler',
    'train_cfg',
    'custom_hooks',
)
# But for these within: speed, paths, repetitions, and how often validation looks.
WITHOUT_EFFECT = {
    *('seed', 'label_seed', 'split_seed', 'image_seed', 'split_file', 'num_workers'),
    *(
        'persistent_workers',
        'pin_memory',
        'prefetch_factor',
        'data_root',
        'data_prefix',
        'ann_file',
    ),
    *('download', 'backend_args', 'val_interval', 'val_begin', '_scope_'),
}
BATCH = 'train_dataloader.batch_size'
# Which images and annotations, wherever they lie on a machine.
FOLDERS, ANNOTATIONS = 'train_dataloader.dataset.data_root', 'train_dataloader.dataset.ann_file'
VAL_FOLDERS, VAL_ANNOTATIONS = 'val_dataloader.dataset.data_root', 'val_dataloader.dataset.ann_file'
WEIGHTS = re.compile(r'.+\binit_cfg(\.\d+)?\.checkpoint')
# Names, without their ending, that every training gives its checkpoints, and folders that say as little.
OF_A_TRAINING = re.compile(
    r'.*(epoch|iter)[_=]?\d+.*|(model_)?(best|latest|last|final|interrupted|\d+)(_.*)?|'
    r'(pytorch_)?model|backbone|weights|checkpoint|ckpt',
    re.IGNORECASE,
)
HASHED = re.compile(r'.*-[0-9a-f]{8}')  # by their maker: no other file has this name
OF_ANY_TRAINING = re.compile(
    r'|\.+|work_dirs?|runs|seed_?\d+|\d{8}_\d{6}|checkpoints?|weights|models|resolve|main|blob'
)
PARTS = ('num_labels', 'indices', 'split')
# Data sets that are the same in any folder.
FIXED = ('CIFAR10', 'CIFAR100', 'MNIST', 'FashionMNIST', 'STL10', 'CIFAR10C')
# Folders of no name of their own.
GENERAL = re.compile(
    r'|\.+|[a-z]:|annotations?|images?|imgs|(train(ing)?|val|test|trainval)((19|20)\d\d)?',
    re.IGNORECASE,
)
ELSEWHERE = re.compile('/|[a-z]:|.+://', re.IGNORECASE)  # not below data_root
COLLECTIONS = re.compile('data|datasets?', re.IGNORECASE)
_ABSENT = object()


def settings_of(config: dict[str, Any], world_size: int = 1) -> dict[str, Any]:
    """The leaves of a config that may change a result, by their path.

    Args:
        world_size: the batch is that of all processes: eight GPUs with 64 images each are one with 512.

    Example:
        >>> from mmgradaug.experiments.settings import settings_of
        >>> settings_of(dict(train_dataloader=dict(batch_size=64, num_workers=4), log_level='INFO'), 8)
        {'train_dataloader.batch_size': 512}
    """
    found = dict(_leaves(config))
    # A resumed run has its own checkpoint there.
    file = None if config.get('resume') else config.get('load_from')
    if isinstance(file, str) and file:
        found['load_from'] = _weights(file)
    for key in filter(WEIGHTS.fullmatch, found):
        found[key] = _weights(str(found[key]))
    training, validation = _data_sets(config), _data_sets(config, 'val')
    for key, names in (
        (FOLDERS, [folder_name(part) for part in training]),
        (ANNOTATIONS, [_annotations(part) for part in training]),
        (VAL_FOLDERS, [_tested_on(part) for part in validation]),
        (VAL_ANNOTATIONS, [_annotations(part) for part in validation]),
    ):
        if any(names):
            found[key] = ' + '.join(names)
    if BATCH in found:
        found[BATCH] *= world_size
    return found


def _weights(file: str) -> str:
    """A checkpoint, wherever it lies on a machine: its name, 'my_run/epoch_12.pth' where that alone says little."""
    if '://' in file and not file.startswith('http'):
        return file  # torchvision://resnet50
    *folders, name = file.replace('\\', '/').split('/')
    stem = re.sub(r'(\.(pth|pt|tar|ckpt|bin|pkl|safetensors))+$', '', name)
    if HASHED.fullmatch(stem) or not OF_A_TRAINING.fullmatch(stem):
        return name
    named = [folder for folder in folders if not OF_ANY_TRAINING.fullmatch(folder)]
    return '/'.join([*named[-1:], name])


def folder_name(dataset: dict[str, Any]) -> str:
    """What the folder of a data set is called, 'flowers' of ``data/flowers/train``; '' if it has no such name.

    With what is between it and the images, 'flowers/few' of ``data_root='data/flowers', data_prefix='few'``.
    """
    if _kind(dataset) in FIXED:
        return ''
    images = _names(_prefix(dataset))
    for path in (dataset.get('data_root'), str(dataset.get('ann_file') or '').rpartition('/')[0]):
        if names := _names(path):
            return '/'.join([names[-1], *images])
    return '/'.join(images)


def _names(path: Any) -> list[str]:
    """The folders of a path that have a name of their own, below the last that is called data."""
    return [part for part in _parts(path) if not GENERAL.fullmatch(part)]


def _parts(path: Any) -> list[str]:
    """The folders of a path below the last that is called data."""
    parts = [
        part for part in str(path or '').replace('\\', '/').split('/') if part not in ('', '.')
    ]
    places = [i for i, part in enumerate(parts) if COLLECTIONS.fullmatch(part)]
    return parts[places[-1] + 1 :] if places else parts


def _prefix(dataset: dict[str, Any]) -> str:
    prefix = dataset.get('data_prefix') or ''
    return next(iter(prefix.values()), '') if isinstance(prefix, dict) else prefix


def _tested_on(dataset: dict[str, Any]) -> str:
    """The folder of validation images, 'flowers/val', in which 'val' or 'test' matters; '' if it has no name."""
    if _kind(dataset) in FIXED:
        return ''
    root = _parts(dataset.get('data_root') or str(dataset.get('ann_file') or '').rpartition('/')[0])
    own = [i for i, part in enumerate(root) if not GENERAL.fullmatch(part)]
    return '/'.join([*(root[own[-1] :] if own else root[-1:]), *_parts(_prefix(dataset))])


def _data_sets(config: dict[str, Any], stage: str = 'train') -> list[dict[str, Any]]:
    return inner_configs((config.get(f'{stage}_dataloader') or {}).get('dataset') or {})


def _annotations(dataset: dict[str, Any]) -> str:
    """An annotation file within its data set's folder, 'few/train.json', which :func:`folder_name` names."""
    file = str(dataset.get('ann_file') or '').replace('\\', '/')
    folder, _, name = file.rpartition('/')
    root, inside = _names(dataset.get('data_root'))[-1:], _names(folder)
    if not dataset.get('data_root'):
        inside = []  # it is the file's folder that is named
    elif root and root[0] in inside:
        inside = inside[len(inside) - inside[::-1].index(root[0]) :]
    elif ELSEWHERE.match(file):
        inside = inside[-1:]
    return '/'.join([*inside, name])


def _kind(dataset: dict[str, Any]) -> str:
    """The class of a data set, or of that which it takes a part of."""
    return short_name(dataset.get('of') or dataset.get('type') or '')


def have_the_same_data(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two configs train on the same images, and are tested on the same."""
    return _data_of(one) == _data_of(other)


def _data_of(config: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [
        (_kind(part), named(part), _annotations(part), *(part.get(key) for key in PARTS))
        for stage, named in (('train', folder_name), ('val', _tested_on))
        for part in _data_sets(config, stage)
    ]


def differ_in_gradaug_alone(
    one: dict[str, Any], other: dict[str, Any], lengths_too: bool = False
) -> bool:
    """Whether nothing else tells a GradAug training from a plain one; see :func:`differing_otherwise`."""
    return not differing_otherwise(one, other, lengths_too)


def differing_otherwise(
    one: dict[str, Any], other: dict[str, Any], lengths_too: bool = False
) -> list[str]:
    """What tells a GradAug training from a plain one but GradAug, of what :func:`settings_of` gives.

    Args:
        lengths_too: whether length and schedule may differ as well.
    """
    if 'model.detector' in one or 'model.detector' in other:
        # GradAugDetector says of which class the detector is; plain training has it as its type.
        kinds = [s.get('model.detector') or s.get('model.type') or '' for s in (one, other)]
        if short_name(kinds[0]) != short_name(kinds[1]):
            return ['model.type']
    ignored = ['model.type', 'model.detector', 'model.gradaug', 'custom_hooks']
    if lengths_too:
        ignored += ['train_cfg', 'param_scheduler']
    keys = [key for key in sorted(one.keys() | other.keys()) if not key.startswith(tuple(ignored))]
    return [key for key in keys if _compared(one, key) != _compared(other, key)]


def _compared(settings: dict[str, Any], key: str) -> Any:
    """A setting as far as it tells: one class in any scope, and without seeds, of which a fold is one."""
    value = settings.get(key, _ABSENT)
    if key.endswith('.type') and value is not _ABSENT:
        return short_name(value).removeprefix('Slimmable')
    return _ABSENT if key.endswith('.fold') else value


def _leaves(value: Any, prefix: str = '') -> Iterator[tuple[str, Any]]:
    """The leaves of a config that may change a result."""
    parts = prefix.split('.')
    if prefix and (parts[0] not in DECISIVE or set(parts) & WITHOUT_EFFECT):
        return
    if prefix == 'val_dataloader.batch_size':
        return
    if isinstance(value, dict):
        items: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, list) and any(isinstance(entry, dict) for entry in value):
        items = enumerate(value)
    else:
        yield prefix, value
        return
    for key, entry in items:
        yield from _leaves(entry, f'{prefix}.{key}' if prefix else str(key))
