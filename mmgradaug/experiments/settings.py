"""What of a config decides over a training's result."""

from collections.abc import Iterable, Iterator
from typing import Any

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
    *('download', 'backend_args', 'val_interval', 'val_begin'),
}
BATCH = 'train_dataloader.batch_size'


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
    dataset = (config.get('train_dataloader') or {}).get('dataset') or {}
    # Which weights and annotations, wherever they are on a machine. A resumed run has its own checkpoint there.
    for key, file in (
        ('load_from', None if config.get('resume') else config.get('load_from')),
        ('train_dataloader.dataset.ann_file', dataset.get('ann_file')),
    ):
        if isinstance(file, str) and file:
            found[key] = file.rsplit('/', 1)[-1]
    if BATCH in found:
        found[BATCH] *= world_size
    return found


def differ_in_gradaug_alone(
    one: dict[str, Any], other: dict[str, Any], lengths_too: bool = False
) -> bool:
    """Whether nothing else tells a GradAug training from a plain one, by what :func:`settings_of` gives.

    Args:
        lengths_too: whether length and schedule may differ as well.
    """
    ignored = ['model.type', 'model.gradaug', 'custom_hooks']
    if lengths_too:
        ignored += ['train_cfg', 'param_scheduler']
    own, others = (
        {key: value for key, value in settings.items() if not key.startswith(tuple(ignored))}
        for settings in (one, other)
    )
    return own == others


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
