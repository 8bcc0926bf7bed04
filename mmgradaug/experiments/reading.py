"""Reads run.json and the JSON files of evaluations from work dirs, and says how trainings differ from the paper's."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from mmgradaug.files import UserError, read_json, short
from mmgradaug.launch import parse_options
from mmgradaug.resources import CONFIGS
from mmgradaug.wrapped_datasets import inner_configs

from .results import OTHER, OWN, PAPER, SMALL, Found, Group, Result
from .runs import RECORD, REQUEST, problem_of, read_config
from .settings import (
    ANNOTATIONS,
    BATCH,
    FOLDERS,
    VAL_ANNOTATIONS,
    VAL_FOLDERS,
    WITHOUT_EFFECT,
    folder_name,
    settings_of,
)
from .tables import EQUAL_COST, ROWS, Row, metric_of, own_key

SWEEP = 'sweep.json'  # beside the runs of a sweep: what they share
LARGEST = 50_000_000  # bytes; annotations of data sets are JSON too


def read_work_dirs(folders: Sequence[Path]) -> Found:
    """What is in the folders, and in those below.

    Raises:
        UserError: a folder is missing, or has no results.
    """
    found = Found()
    seen: set[Path] = set()
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f'no such folder: {folder}')
        before = len(seen)
        for file in sorted(folder.rglob('*.json')):
            if file.resolve() in seen or file.name == REQUEST:
                continue
            if _read_file(file, found):
                seen.add(file.resolve())
        if len(seen) == before:
            raise UserError(
                f'no results in {folder}: looked there and in all folders below for {RECORD}, which every '
                'training with our configs leaves in its work dir, and for the JSON files of mmgradaug '
                'robustness, fgsm, width-curve and extract'
            )
    order = (OWN, SMALL, OTHER, PAPER)
    found.groups.sort(key=lambda group: order.index(group.badge))
    short_titles = [_title(group) for group in found.groups]
    titles = [
        title if short_titles.count(title) == 1 else f'{title}: {_methods(group)}'
        for title, group in zip(short_titles, found.groups)
    ]
    for index, (group, title) in enumerate(zip(found.groups, titles)):
        same = titles[:index].count(title)
        group.title = f'{title} ({same + 1})' if same else title
        group.anchor = f'runs-{index + 1}'
    return found


def _methods(group: Group) -> str:
    labels = [runs[0].label for key, runs in group.results.items() if EQUAL_COST not in key]
    text = ', '.join(labels)
    return text if len(text) <= 60 else f'{text[:57]}...'


def _read_file(file: Path, found: Found) -> bool:
    """Add what a file holds; False if it is none of ours."""
    try:
        if file.stat().st_size > LARGEST:
            return False
        data = json.loads(file.read_text())
    except (OSError, ValueError):
        return False
    entries = data if isinstance(data, list) else [data]
    if not all(isinstance(entry, dict) for entry in entries) or not entries:
        return False
    if file.name == RECORD:
        if not (isinstance(data, dict) and data.get('version') == 1 and 'config' in data):
            return False
        _add_run(file, data, found)
    elif all('kind' in entry and 'model' in entry for entry in entries):
        for entry in entries:
            found.evaluations.setdefault(entry['kind'], []).append(entry)
    else:
        return False
    return True


def _add_run(file: Path, record: dict[str, Any], found: Found) -> None:
    folder = file.parent
    request = read_json(folder / REQUEST) if (folder / REQUEST).is_file() else {}
    result = result_of(record, request, folder)
    facts = [(f'{result.label}, seed {result.seed}', _circumstances(record))]
    shared: dict[str, Any] = {}
    # Runs of one network and data are shown together.
    place = f'{describe(result.config)} {result.settings.get(FOLDERS)}'
    if request:
        work_dir = folder.parents[2]
        shared = read_json(work_dir / SWEEP) if (work_dir / SWEEP).is_file() else {}
        place = str(work_dir.resolve())
        facts.insert(0, ('Sweep', f'{short(work_dir)}: {shared.get("command", "")}'))
    group = Group(*_setting(result, shared, place), facts)
    if group.badge == OWN and not request:
        _tell_apart(result, next((g for g in found.groups if g.identity == group.identity), group))
    found.add(group, [result])


def _tell_apart(result: Result, group: Group) -> None:
    """Name a run of one's own config by what it was trained with, where the first of its name had something else."""
    others = group.results.get(result.key)
    if not others or others[0].settings == result.settings:
        return
    ours, first = result.settings, others[0].settings
    keys = [k for k in sorted(ours.keys() | first.keys()) if ours.get(k) != first.get(k)]
    shortest = [key.rsplit('.', 1)[-1] for key in keys]
    names = [last if shortest.count(last) == 1 else key for key, last in zip(keys, shortest)]
    texts = [f'{name}={ours.get(key, "absent")}' for key, name in zip(keys, names)]
    more = [f'{len(keys) - 2} more'] if len(keys) > 2 else []
    name = key = f'{result.key} ({", ".join([*texts[:2], *more])})'
    number = 1
    while key in group.results and group.results[key][0].settings != ours:
        number += 1  # the rest of the differences is another
        key = f'{name} {number}'
    result.key = result.label = key


def _setting(
    result: Result, shared: dict[str, Any], place: str
) -> tuple[tuple[Any, ...], str, str]:
    """Identity, badge and sentence of a run's group.

    Args:
        shared: the sweep.json beside it, if it is of a sweep.
        place: what holds runs together that are of no table.
    """
    scale, overlay = shared.get('scale'), shared.get('overlay')
    options = tuple(shared.get('cfg_options') or ())
    with_options = f' With {" ".join(options)}.' if options else ''
    row = ROWS.get(result.key.removesuffix(EQUAL_COST))
    if row is None:
        sentence = (scale or describe(result.config)).rstrip('.')
        return (OWN, place, scale), OWN, f'{sentence}.{with_options}'
    if scale or overlay:
        sentence = scale or 'The configs with an overlay that makes them smaller'
        return (SMALL, scale, overlay, options), SMALL, f'{sentence.rstrip(".")}.{with_options}'
    if options:
        small = any(makes_small(option.split('=')[0]) for option in options)
        badge = SMALL if small else OTHER
        return (badge, options), badge, f"The rows' configs.{with_options}"
    # A plain training at equal cost is longer than its row's; the others of its sweep tell the rest.
    differing = [] if result.key.endswith(EQUAL_COST) else differences(result, row)
    if not differing:
        return (
            (PAPER,),
            PAPER,
            "The rows' configs as they are: data, network and length of training.",
        )
    badge = SMALL if any(makes_small(key) for key, _, _ in differing) else OTHER
    return (badge, *((k, value) for k, value, _ in differing)), badge, in_words(differing)


def result_of(record: dict[str, Any], request: dict[str, Any], folder: Path) -> Result:
    """A run's record in the units of the tables."""
    config = record['config']
    file = Path(record['config_file'] or folder.name)
    key = request.get('key') or _key_of(file, config)
    row = ROWS.get(key)
    label = request.get('label') or (row.label if row else key)
    status = 'done' if record['status'] == 'done' else _progress(record)
    status = problem_of(record) or status
    evaluations = record['evaluations']
    names = evaluations[-1]['metrics'] if evaluations else {}
    curves = {
        name: [
            (e['iteration'], scaled(name, e['metrics'][name]))
            for e in evaluations
            if e['metrics'].get(name) is not None
        ]
        for name in names
    }
    return Result(
        key,
        label,
        record['seed'],
        folder,
        config,
        status,
        {name: scaled(name, v) for name, v in record['last'].items() if v is not None},
        {name: scaled(name, v) for name, v in record['best'].items() if v is not None},
        curves,
        [(w['iteration'], w['loss']) for w in record['training'] if w['loss'] is not None],
        record['iterations'],
        record['length'] if record['unit'] == 'epoch' else None,
        record['seconds_per_iteration'],
        record['train_seconds'],
        record['peak_memory_mb'],
        record['world_size'],
        record['device'],
        request.get('metric'),
        request.get('equal_cost_to'),
    )


def scaled(name: str, value: float) -> float:
    return metric_of(name).factor * value


def _progress(record: dict[str, Any]) -> str:
    return f'unfinished: iteration {record["iterations"]} of {record["max_iters"]}'


def _circumstances(record: dict[str, Any]) -> str:
    versions = ', '.join(f'{k} {v}' for k, v in record['versions'].items())
    commit = record['commit'] or 'not from a checkout'
    dirty = ' with changed files' if record['dirty'] else ''
    return f'{record["world_size"]} x {record["device"]}; {versions}; commit {commit}{dirty}'


def _key_of(file: Path, config: dict[str, Any]) -> str:
    """The key of the row that a config trains: rows that share a file are told apart by options."""
    rows = [
        row for row in ROWS.values() if f'/{file.as_posix()}'.endswith(f'/configs/{row.config}')
    ]
    for row in sorted(rows, key=lambda row: -len(row.options)):
        if all(_at(config, k) == v for k, v in parse_options(row.options).items()):
            return row.key
    return own_key(file)


def _at(config: Any, key: str) -> Any:
    for part in key.split('.'):
        if isinstance(config, list):
            config = config[int(part)] if part.isdigit() and int(part) < len(config) else None
        else:
            config = config.get(part) if isinstance(config, dict) else None
    return config


# How a training differs from the paper's


@cache
def reference(key: str) -> dict[str, Any]:
    """A row's config as it is now, as JSON has it; empty if there is none."""
    row = ROWS[key]
    file = CONFIGS / row.config
    if not file.is_file():
        return {}
    cfg = read_config(file)
    cfg.merge_from_dict(parse_options(row.options))
    return json.loads(json.dumps(cfg.to_dict(), default=str))


def differences(result: Result, row: Row) -> list[tuple[str, str, str]]:
    """(key, value, the row's) where a run's config trains otherwise than the row's."""
    wanted_config = reference(row.key)
    if not wanted_config:
        return [(f'configs/{row.config}', 'not compared', 'missing here')]
    trained, wanted = dict(result.settings), settings_of(wanted_config)
    for values in (trained, wanted):  # the same images, wherever they lie, and read from a folder
        for folders in (FOLDERS, VAL_FOLDERS):
            values.pop(folders, None)
        for annotations in (ANNOTATIONS, VAL_ANNOTATIONS):
            if annotations not in wanted:  # a list of the folder's images
                values.pop(annotations, None)
        for key, value in values.items():
            if key.endswith('dataset.type') and value == 'mmgradaug.ImageFolder':
                values[key] = f'CIFAR{values.get("data_preprocessor.num_classes")}'
    if BATCH in trained:
        base = (wanted_config.get('auto_scale_lr') or {}).get('base_batch_size')
        wanted[BATCH] = base or wanted.get(BATCH)
    nothing = 'absent'
    return [
        (key, str(trained.get(key, nothing)), str(wanted.get(key, nothing)))
        for key in sorted(trained.keys() | wanted.keys())
        if trained.get(key, nothing) != wanted.get(key, nothing)
    ]


def makes_small(key: str) -> bool:
    """Whether a difference makes a training smaller; elsewhere it makes another one of it."""
    parts = key.split('.')
    return parts[0] == 'train_cfg' or '_dataloader.dataset' in key or 'backbone' in parts[1:]


def in_words(differing: Sequence[tuple[str, str, str]], most: int = 8) -> str:
    parts = [f"{k} {value} (the row's config: {wanted})" for k, value, wanted in differing[:most]]
    if len(differing) > most:
        parts.append(f'{len(differing) - most} more')
    return f"Not as the rows' configs: {'; '.join(parts)}."


def describe(config: dict[str, Any], with_length: bool = False) -> str:
    """Network and data of a training, in short."""
    if not config:
        return ''
    model = config.get('model') or {}
    loader = config.get('train_dataloader') or {}
    parts = [_described(model.get('backbone') or {}), _described_data(config)]
    if with_length:
        loop = config.get('train_cfg') or {}
        parts.append(f'{loader.get("batch_size")} images an iteration and process')
        for key, unit in (('max_epochs', 'epoch'), ('max_iters', 'iteration')):
            if key in loop:
                parts.append(f'{loop[key]} {unit}{"" if loop[key] == 1 else "s"}')
    return ', '.join(parts)


def _described_data(config: dict[str, Any]) -> str:
    """Of one's own folder with its name: 'CustomDataset of flowers'."""
    dataset = inner_configs((config.get('train_dataloader') or {}).get('dataset') or {})[0]
    text, folder = _described(dataset), folder_name(dataset)
    name, *rest = text.split(' (', 1)
    if not folder or folder.lower().rstrip('s') in name.lower():  # 'data/cifar10' of CIFAR10
        return text
    return ' ('.join([f'{name} of {folder}', *rest])


def _described(part: dict[str, Any]) -> str:
    numbers = [
        f'{key} {value}'
        for key, value in part.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
        if key not in WITHOUT_EFFECT
    ]
    name = str(part.get('type', 'unknown')).rsplit('.', 1)[-1].removeprefix('Slimmable')
    return f'{name} ({", ".join(numbers)})' if numbers else name


def _title(group: Group) -> str:
    if group.badge == PAPER:
        return "The paper's setting"
    config = next(iter(group.results.values()))[0].config
    if config and group.sentence.startswith(describe(config)):
        parts = [_described(config['model'].get('backbone') or {}), _described_data(config)]
        return ' on '.join(part.split(' (')[0] for part in parts)
    first = group.sentence.split('. ')[0].rstrip('.')
    return first if len(first) <= 90 else f'{first[:87]}...'
