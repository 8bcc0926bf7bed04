"""What a config means, in whatever way it is written: of which class its parts are, in what it counts."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Optional, Union

from mmengine.config import Config
from mmengine.registry import Registry

# Words in the names of metrics that are the better the lower they are.
LOWER = re.compile(r'(?<![a-z])(loss|error|err|mae|rmse|mmr)(?![a-z])', re.IGNORECASE)


def default_scope(cfg: Mapping[str, Any], otherwise: str) -> str:
    """The scope in which a config's short names are looked up.

    Args:
        cfg: a whole config. New-style ones, whose types are imported classes, have a scope of None.
        otherwise: where the config names none; 'mmpretrain', 'mmdet', ...
    """
    return cfg.get('default_scope') or otherwise


def settings_in(part: Any, place: str = '') -> Iterator[tuple[str, Any, Any]]:
    """All that a config holds: its place as ``--cfg-options`` writes it, its name and its value, the outer first."""
    items: Any = part.items() if isinstance(part, (Mapping, Config)) else ()
    for name, value in enumerate(part) if isinstance(part, (list, tuple)) else items:
        where = f'{place}.{name}' if place else str(name)
        yield where, name, value
        yield from settings_in(value, where)


def class_of(
    part: Union[Mapping[str, Any], type, str, None], registry: Registry, scope: Optional[str] = None
) -> Any:
    """The class, or the function, that a config is of; None if there is none such.

    Args:
        part: a config with a ``type``, or the type itself: a class (new-style configs), a registered name
            with or without scope ('mmdet.CocoMetric'), or a dotted path, as dumped new-style configs
            have ('mmdet.evaluation.metrics.coco_metric.CocoMetric').
        registry: in which names are looked up.
        scope: of names without one; by default the registry's own.
    """
    kind = part.get('type') if isinstance(part, Mapping) else part
    if not isinstance(kind, str):
        return kind
    with registry.switch_scope_and_registry(scope) as found_in:
        try:
            return found_in.get(kind)
        except RuntimeError:  # MMEngine's answer to an unknown name
            return None


def is_a(
    part: Union[Mapping[str, Any], type, str, None],
    kinds: Union[type, tuple[type, ...]],
    registry: Registry,
    scope: Optional[str] = None,
) -> bool:
    """Whether a config is of one of these classes, or of a subclass. Arguments: see :func:`class_of`."""
    found = class_of(part, registry, scope)
    return isinstance(found, type) and issubclass(found, kinds)


def trains_by_gradaug(model: Optional[Mapping[str, Any]]) -> bool:
    """Whether a model's config has sub-networks; with ``num_subnets=0`` it is plain training."""
    gradaug = (model or {}).get('gradaug') or {}
    return bool(gradaug) and gradaug.get('num_subnets') != 0


def counts_epochs(loop: Mapping[str, Any]) -> bool:
    """Whether a ``train_cfg`` is of epochs, and not of iterations."""
    if 'type' in loop:
        return 'EpochBasedTrainLoop' in short_name(loop)
    return bool(loop) and loop.get('by_epoch', True)


def lower_is_better(name: str, cfg: Optional[Mapping[str, Any]] = None) -> bool:
    """Whether a metric is of losses or errors, by what the checkpoint hook is told of it, else by its name."""
    hook = ((cfg or {}).get('default_hooks') or {}).get('checkpoint') or {}
    names, rules = hook.get('save_best'), hook.get('rule')
    names = [names] if isinstance(names, str) else list(names or [])
    rules = [rules] * len(names) if isinstance(rules, str) else list(rules or [])
    said = dict(zip(names, rules))
    if name in said or 'auto' in said:
        return said.get(name, said.get('auto')) == 'less'
    return LOWER.search(name) is not None


def short_name(part: Union[Mapping[str, Any], type, str]) -> str:
    """A type's own name, in whatever way it is written: without scope and path; '' where there is none.

    For what is only read and not built, whose packages need not be imported.
    """
    kind = part.get('type', '') if isinstance(part, Mapping) else part
    return re.split('[./]', kind)[-1] if isinstance(kind, str) else kind.__name__
