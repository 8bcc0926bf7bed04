"""Plain training at equal cost: which GradAug training it goes with, and its longer schedule."""

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, Optional

from mmgradaug.config_types import settings_in, short_name
from mmgradaug.files import UserError

from .items import Item, has_gradaug, merge
from .runs import read_config
from .settings import differ_in_gradaug_alone, have_the_same_data, settings_of
from .tables import ROWS

# What of a parameter scheduler is in epochs or iterations; of a hook begin_iter, switch_epoch, num_last_epochs, ...
SCHEDULER_LENGTH = re.compile(
    'begin|end|T_max|milestones|periods|step_size|total_iters|total_steps'
)
HOOK_LENGTH = re.compile('begin|end|milestones|(.+_)?(epoch|iter)s?')
# TOOD's initial_epoch; iterations within a model are other ones.
MODEL_LENGTH = re.compile('.+_epochs?')


def equal_cost_items(items: Sequence[Item]) -> list[tuple[Item, Item, Item]]:
    """Plain, GradAug and, not yet prepared, plain at equal cost.

    Of a table a baseline, by its name, goes with the GradAug row of that name. Of one's own configs each with GradAug
    goes with the plain one that differs in GradAug alone, else with its namesake, else with the one there is.

    Raises:
        UserError: there is no pair, or it is not clear which.
    """
    gradaug_items = [item for item in items if has_gradaug(item)]
    if not gradaug_items:
        raise UserError(
            f'--equal-cost: none of {_keys(items)} has GradAug, whose cost it is about: leave --equal-cost out, or '
            'name a config with GradAug too'
        )
    plain_items = [item for item in items if item not in gradaug_items]
    if any(item.row.key in ROWS for item in items):
        by_key = {item.key: item for item in gradaug_items}
        pairs: list[tuple[Optional[Item], Optional[Item]]] = []
        for plain in (item for item in plain_items if _is_baseline(item)):
            partner = plain.key.replace('baseline', 'gradaug')
            pairs.append((plain, by_key.get(partner) or by_key.get(f'{partner}_imagenet')))
        if not (pairs and all(gradaug for _, gradaug in pairs)):
            pairs = (
                [(_plain_of(gradaug_items[0], plain_items), gradaug_items[0])]
                if len(gradaug_items) == 1
                else []
            )
        own = [item for item in gradaug_items if item.row.key not in ROWS]
        paired = [gradaug for _, gradaug in pairs]
        pairs += [(_plain_of(item, plain_items), item) for item in own if item not in paired]
    else:
        pairs = [(_plain_of(gradaug, plain_items), gradaug) for gradaug in gradaug_items]
    if not pairs or any(plain is None for plain, _ in pairs):
        raise UserError(
            '--equal-cost: which plain training is to be made as expensive as which GradAug training? '
            f'Without GradAug: {_keys(plain_items)}. With it: {_keys(gradaug_items)}. Name one without it, '
            'or call them X_baseline.py and X_gradaug.py; of a table let --only leave both in'
        )
    clear = [(plain, gradaug) for plain, gradaug in pairs if plain and gradaug]
    several = len(clear) > len({plain.key for plain, _ in clear})
    return [
        (
            plain,
            gradaug,
            Item(plain.row, list(plain.tables), plain=plain, partner=gradaug if several else None),
        )
        for plain, gradaug in clear
    ]


def _is_baseline(item: Item) -> bool:
    """By its name; the folder of a config may be called baseline too."""
    return 'baseline' in item.row.config.rsplit('/', 1)[-1]


def _plain_of(gradaug: Item, plain_items: Sequence[Item]) -> Optional[Item]:
    """What a GradAug training is measured by; None if it is not clear."""
    config = read_config(gradaug.base).to_dict()
    configs = [read_config(plain.base).to_dict() for plain in plain_items]
    alike = [i for i, other in enumerate(configs) if have_the_same_data(config, other)]
    plain_items, others = [plain_items[i] for i in alike], [settings_of(configs[i]) for i in alike]
    own = settings_of(config)
    for candidates in (
        [p for p, other in zip(plain_items, others) if differ_in_gradaug_alone(own, other)],
        [p for p, other in zip(plain_items, others) if differ_in_gradaug_alone(own, other, True)],
        [p for p in plain_items if p.key == gradaug.key.replace('gradaug', 'baseline')],
        [p for p in plain_items if _is_baseline(p)] or plain_items,
    ):
        if len(candidates) == 1:
            return candidates[0]
    return None


def _keys(items: Sequence[Item]) -> str:
    return ', '.join(item.key for item in items) or 'none'


def make_as_expensive(longer: Item, plain: Item, ratio: float) -> None:
    """Prepare plain training that costs ``ratio`` times as much. Whole epochs are rounded up: it never has less."""
    unit, length = plain.length
    # Of what is measured to a per cent, a hundredth of an epoch more is none.
    times = math.ceil(length * ratio - 0.01) / length if unit == 'epochs' else ratio
    stretch(longer, plain, times)


def stretch(item: Item, source: Item, times: float) -> None:
    """Prepare ``item`` as ``source`` with so many times its length: schedules, hooks and evaluations alike."""
    unit, length = source.length
    new = max(1, round(length * times))
    options = [f'train_cfg.{"max_epochs" if unit == "epochs" else "max_iters"}={new}']
    loop, times = source.cfg.train_cfg, new / length

    def scaled(value: float) -> int:
        return max(1, round(value * times))

    # As many evaluations: otherwise the best of more of them would be compared.
    usual = 1 if unit == 'epochs' else 1000  # MMEngine's
    options.append(f'train_cfg.val_interval={scaled(loop.get("val_interval", usual))}')
    if loop.get('val_begin', 1) > 1:
        options.append(f'train_cfg.val_begin={scaled(loop.val_begin)}')
    if loop.get('dynamic_intervals'):
        pairs = ','.join(f'({scaled(at)},{scaled(each)})' for at, each in loop.dynamic_intervals)
        options.append(f'train_cfg.dynamic_intervals=[{pairs}]')
    for name, value in [
        *_lengths(source.cfg.get('param_scheduler'), 'param_scheduler', SCHEDULER_LENGTH),
        *_lengths(source.cfg.get('custom_hooks'), 'custom_hooks', HOOK_LENGTH),
        *_lengths(source.cfg.get('default_hooks'), 'default_hooks', HOOK_LENGTH),
        *_lengths(source.cfg.get('model'), 'model', MODEL_LENGTH),
    ]:
        if isinstance(value, (list, tuple)):
            options.append(f'{name}=[{",".join(str(scaled(each)) for each in value)}]')
        else:
            options.append(f'{name}={scaled(value)}')
    for place, scheduler in _schedulers(source.cfg):
        if short_name(scheduler).startswith('Exponential') and 'gamma' in scheduler:
            options.append(f'{place}.gamma={scheduler["gamma"] ** (1 / times)!r}')
    item.config, item.metric = source.config, source.metric
    item.options = [*source.options, *options]
    item.cfg = type(source.cfg)(source.cfg.to_dict())
    merge(item.cfg, options)


def _schedulers(cfg: Any) -> list[tuple[str, Any]]:
    """Parameter schedulers by their place in a config: one, a list, or one for each optimizer."""
    found = cfg.get('param_scheduler') or []
    pairs: Any = enumerate(found) if isinstance(found, (list, tuple)) else found.items()
    if isinstance(found, dict) and 'type' in found:
        return [('param_scheduler', found)]
    return [(f'param_scheduler.{key}', each) for key, each in pairs if isinstance(each, dict)]


def _lengths(part: Any, path: str, names: 're.Pattern[str]') -> Iterator[tuple[str, Any]]:
    """What of a config is in epochs or iterations: settings with these names, numbers or lists of numbers."""
    for where, key, value in settings_in(part, path):
        numbers = value if isinstance(value, (list, tuple)) else [value]
        are_numbers = all(
            type(each) in (int, float) and 1 <= each < float('inf') for each in numbers
        )
        if names.fullmatch(str(key)) and numbers and are_numbers:
            yield where, value
