"""What MMEngine takes in silence and nobody means: told before anything is built."""

import difflib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .config_types import short_name

# What runners read of a config; all other names at its top are variables of its author.
RUNNER_KEYS = (
    'model', 'work_dir', 'train_dataloader', 'val_dataloader', 'test_dataloader', 'train_cfg', 'val_cfg',
    'test_cfg', 'auto_scale_lr', 'optim_wrapper', 'param_scheduler', 'val_evaluator', 'test_evaluator',
    'default_hooks', 'custom_hooks', 'custom_imports', 'data_preprocessor', 'load_from', 'resume', 'launcher',
    'env_cfg', 'log_processor', 'log_level', 'visualizer', 'default_scope', 'randomness', 'experiment_name',
    'model_wrapper_cfg', 'tta_model', 'tta_pipeline', 'runner_type', 'strategy', 'compile',
    'activation_checkpointing', 'efficient_conv_bn_eval', 'optimizer',
)  # fmt: skip
# Names that configs of OpenMMLab have for themselves.
VARIABLES = re.compile(r'\w+_pipeline|vis_backends?|\w+_root|dataset_type|classes')


def check_config(cfg: Mapping[str, Any]) -> None:
    """Refuse what would train or test something else than it says.

    Raises:
        ValueError: a name at the top is a runner's but for a letter or two, which MMEngine ignores; classes are a
            string, whose letters would be the classes; there are two GradAugHooks, of which the last wins.
    """
    for name in cfg:
        if name in RUNNER_KEYS or VARIABLES.fullmatch(name):
            continue
        near = difflib.get_close_matches(name, RUNNER_KEYS, 1, 0.9)
        if near:
            raise ValueError(
                f'the config has {name!r}, which MMEngine ignores: write {near[0]!r}; or, if it is a variable '
                'of your own, give it a name less like that'
            )
    for dataset in _with_metainfo(list(cfg.values())):
        classes = (dataset.get('metainfo') or {}).get('classes')
        if isinstance(classes, str) and not Path(classes).is_file():
            raise ValueError(
                f'metainfo of {short_name(dataset)}: classes is the string {classes!r}, neither a file nor a list '
                f"of names: write classes=('{classes}',), with the comma"
            )
    hooks = [hook for hook in cfg.get('custom_hooks') or [] if short_name(hook) == 'GradAugHook']
    if len(hooks) > 1:
        raise ValueError(
            f'custom_hooks has {len(hooks)} GradAugHooks, of which the last would win in silence: leave one'
        )


def _with_metainfo(part: Any) -> Iterator[Mapping[str, Any]]:
    """Every dict of a config that has a ``metainfo``."""
    if isinstance(part, Mapping):
        if isinstance(part.get('metainfo'), Mapping):
            yield part
        part = list(part.values())
    for value in part:
        if isinstance(value, (Mapping, list, tuple)):
            yield from _with_metainfo(value)
