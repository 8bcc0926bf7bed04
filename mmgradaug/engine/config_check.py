"""Finding in a config what MMEngine would ignore or fail at without a word of sense."""

import inspect
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Callable, Optional

from mmengine.registry import DATASETS, HOOKS, OPTIMIZERS
from mmengine.runner import Runner

from mmgradaug.arguments import nearest
from mmgradaug.checkpoint import absence_of
from mmgradaug.config_types import class_of, counts_epochs, default_scope, settings_in, short_name
from mmgradaug.wrapped_datasets import inner_configs

from .annotations import missing_fields

# What MMEngine reads at the top of a config.
KNOWN = {
    *(set(inspect.signature(Runner.__init__).parameters) - {'self', 'cfg'}),
    'custom_imports', 'model_wrapper_cfg', 'find_unused_parameters', 'sync_bn', 'compile', 'runner_type',
    'activation_checkpointing', 'efficient_conv_bn_eval', 'default_scope',
}  # fmt: skip
# What people write who know another place, or MMCV 1.
ELSEWHERE = {
    'seed': 'randomness=dict(seed=...)',
    'deterministic': 'randomness=dict(deterministic=...)',
    'resume_from': 'load_from=FILE with resume=True (--resume FILE)',
    'max_epochs': 'train_cfg=dict(by_epoch=True, max_epochs=...)',
    'max_iters': 'train_cfg=dict(by_epoch=False, max_iters=...)',
    'total_epochs': 'train_cfg=dict(by_epoch=True, max_epochs=...)',
    'lr_config': 'param_scheduler=dict(...)',
    'optimizer_config': 'optim_wrapper=dict(...)',
    'checkpoint_config': 'default_hooks=dict(checkpoint=dict(...))',
    'gradaug': 'model=dict(gradaug=dict(...))',
    'hooks': 'custom_hooks=[...]',
}


# Samplers that go on for ever.
ENDLESS = ('InfiniteSampler', 'MultiSourceSampler', 'GroupMultiSourceSampler')
# Of these, where a config holds what has an effect.
COUNTS = {
    'seed': ('randomness', 'seed'),
    'deterministic': ('randomness', 'deterministic'),
    'max_epochs': ('train_cfg', 'max_epochs'),
    'total_epochs': ('train_cfg', 'max_epochs'),
    'max_iters': ('train_cfg', 'max_iters'),
}


def problems_of(cfg: dict[str, Any], stages: Sequence[str] = ('train', 'val', 'test')) -> list[str]:
    """What is wrong with a config at its top, a sentence each that says what to write.

    Names of a user's own are fine; those that are nearly MMEngine's are not, as nothing reads them.

    Args:
        stages: whose data sets are about to be read: where a model is tested, the training set may be elsewhere.
    """
    return [
        *_near_misses(cfg),
        *_default_hooks(cfg),
        *_hooks_twice(cfg),
        *_work_dir(cfg),
        *(_load_from(cfg) if 'train' in stages else ()),
        *(_mixing(cfg) if 'train' in stages else ()),
        *_optimizer(cfg),
        *_annotations(cfg, stages),
        *_classes(cfg),
        *_datasets_keys(cfg),
        *(_endless_epochs(cfg) if 'train' in stages else ()),
    ]


def _near_misses(cfg: dict[str, Any]) -> Iterator[str]:
    for key in cfg:
        # A new-style config has what it imports at its top too.
        if key in KNOWN or callable(cfg[key]) or inspect.ismodule(cfg[key]):
            continue
        if key in ELSEWHERE and not _is_used(cfg, key):
            if _counts(cfg, key) is not None:
                # A variable whose uses were overridden, by --cfg-options for instance.
                print(
                    f'{key}={cfg[key]} at the top of the config is read by nobody: '
                    f'{".".join(_what_counts(cfg, key))}={_counts(cfg, key)} counts',
                    flush=True,
                )
                continue
            if key not in COUNTS or cfg.get('train_cfg', {}) is not None:
                yield f'{key} at the top of the config is read by nobody: write {ELSEWHERE[key]}'
            continue
        plain = key.lower().replace('config', 'cfg')
        near = nearest(plain, KNOWN, cutoff=0.86)
        # A suffix makes another name of it: val_evaluator_abs.
        if near and key.startswith(f'{near}_'):
            continue
        # A pair such as `train_evaluator` and val_evaluator differs in what it is about.
        if near and key.split('_')[0].lower() not in _OTHER_STAGE.get(near.split('_')[0], ()):
            yield f'{key} at the top of the config is read by nobody: do you mean {near}?'


_OTHER_STAGE = {
    'train': ('val', 'test', 'tta'),
    'val': ('train', 'test', 'tta'),
    'test': ('train', 'val', 'tta'),
}


def _is_used(cfg: dict[str, Any], key: str) -> bool:
    """Whether a variable is also written somewhere where it counts, as configs do with ``max_epochs``."""
    return cfg[key] is None or bool(copies_of(cfg, key, numbers_of_other_names=True))


def _counts(cfg: dict[str, Any], key: str) -> Any:
    """What counts in place of a top-level setting that nobody reads; None if nothing does."""
    part: Any = cfg
    for name in _what_counts(cfg, key):
        part = part.get(name) if hasattr(part, 'get') else None
    return part


def _what_counts(cfg: dict[str, Any], key: str) -> tuple[str, ...]:
    found = COUNTS.get(key, ('',))
    loop = cfg.get('train_cfg') or {}
    if found[-1] == 'max_epochs' and 'max_epochs' not in loop and 'max_iters' in loop:
        return 'train_cfg', 'max_iters'  # of a base that counts epochs
    return found


def copies_of(cfg: dict[str, Any], key: str, numbers_of_other_names: bool = False) -> list[str]:
    """Where a variable's value stands in what MMEngine reads, as ``train_dataloader.dataset.pipeline``.

    Args:
        numbers_of_other_names: whether a number counts where its name is another one; it may be there by chance.
    """

    value = cfg[key]
    everywhere = isinstance(value, (dict, list, tuple, str)) or (
        numbers_of_other_names and not isinstance(value, bool)
    )
    return _places(
        cfg,
        lambda name, each: (
            each == value and type(each) is type(value) and (everywhere or name == key)
        ),
    )


def built_from(cfg: dict[str, Any], key: str) -> list[str]:
    """Where there are paths below the folder that a variable names, as ``val_evaluator.ann_file``."""
    folder = cfg[key]
    if not isinstance(folder, str) or not folder:
        return []
    start = f'{folder.rstrip("/")}/'
    return _places(
        cfg, lambda _, each: isinstance(each, str) and each.startswith(start) and each != folder
    )


def _places(cfg: dict[str, Any], is_one: Callable[[Any, Any], bool]) -> list[str]:
    """Where in what MMEngine reads something stands, given its name and value."""
    read = {name: cfg[name] for name in cfg if name in KNOWN}
    return [where for where, name, each in settings_in(read) if is_one(name, each)]


def _default_hooks(cfg: dict[str, Any]) -> Iterator[str]:
    hooks = cfg.get('default_hooks') or {}
    for name, hook in hooks.items():
        if isinstance(hook, dict) and 'type' not in hook:
            others = [other for other in hooks if other != name]
            near = nearest(name, others)
            hint = f': do you mean default_hooks.{near}?' if near else ': write its type too'
            yield f'default_hooks.{name} has no type{hint}'


def _hooks_twice(cfg: dict[str, Any]) -> Iterator[str]:
    given = [*(cfg.get('custom_hooks') or []), *(cfg.get('default_hooks') or {}).values()]
    types = [short_name(hook) for hook in given if isinstance(hook, dict) and 'type' in hook]
    for name in sorted({name for name in types if types.count(name) > 1}):
        where = HOOKS.get(f'mmgradaug.{name}') or HOOKS.get(name)
        if where is not None and where.__module__.startswith('mmgradaug.'):
            yield f'the config has {types.count(name)} {name}: leave one (custom_hooks, default_hooks)'


def _work_dir(cfg: dict[str, Any]) -> Iterator[str]:
    work_dir = cfg.get('work_dir')
    if work_dir is None:
        return
    for path in (Path(work_dir), *Path(work_dir).parents):
        if path.exists():
            if not path.is_dir():
                yield f'work_dir={work_dir}: {path} is a file. Write another --work-dir'
            return


def _load_from(cfg: dict[str, Any]) -> Iterator[str]:
    given = cfg.get('load_from')
    absence = absence_of(given) if isinstance(given, str) else None
    if absence is not None:
        yield f'load_from={given} {absence}. Write where the file is, or load_from=None'


def _mixing(cfg: dict[str, Any]) -> Iterator[str]:
    """Labels mixed of another number of classes than the head tells apart, or of none: MMPretrain needs it twice."""
    model = cfg.get('model') or {}
    train_cfg = model.get('train_cfg') or {}
    own = model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    if short_name(own) not in ('', 'ClsDataPreprocessor'):
        return
    augments = train_cfg.get('augments') if isinstance(train_cfg, dict) else None
    where = 'model.train_cfg.augments' if augments else 'data_preprocessor.batch_augments'
    if not augments and not own.get('batch_augments'):
        return
    head = model.get('head') or {}
    number = head.get('num_classes') if isinstance(head, dict) else None
    mixed = own.get('num_classes')
    if not mixed or number not in (None, mixed):
        of = f', not {mixed}' if mixed else ''
        yield f'{where} mixes labels: write data_preprocessor=dict(num_classes={number or "..."}, ...) too{of}'


def _endless_epochs(cfg: dict[str, Any]) -> Iterator[str]:
    """Epochs of a sampler that never ends, of which the first would go on for ever."""
    loop = cfg.get('train_cfg') or {}
    sampler = (cfg.get('train_dataloader') or {}).get('sampler') or {}
    if counts_epochs(loop) and isinstance(sampler, Mapping) and short_name(sampler) in ENDLESS:
        yield (
            f'train_cfg counts epochs, and an epoch of {short_name(sampler)} never ends: write '
            "train_dataloader.sampler=dict(_delete_=True, type='DefaultSampler', shuffle=True), or "
            'train_cfg=dict(by_epoch=False, max_iters=...)'
        )


def _optimizer(cfg: dict[str, Any]) -> Iterator[str]:
    """An optimizer of which MMEngine says that None is not callable."""
    wrapper = cfg.get('optim_wrapper')
    optimizer = wrapper.get('optimizer') if isinstance(wrapper, Mapping) else None
    kind = optimizer.get('type') if isinstance(optimizer, Mapping) else None
    scope = default_scope(cfg, 'mmpretrain')
    imports = (cfg.get('custom_imports') or {}).get('imports') or []
    later = {imports} if isinstance(imports, str) else {*imports}
    if later - {*sys.modules}:
        return  # where a config is only looked at, they are not imported
    if isinstance(kind, str) and class_of(kind, OPTIMIZERS, scope) is None:
        near = nearest(kind, OPTIMIZERS.module_dict)
        hint = f'do you mean {near}?' if near else 'custom_imports has to name its module'
        yield f'optim_wrapper.optimizer: there is no optimizer {kind}: {hint}'


def _annotations(cfg: dict[str, Any], stages: Sequence[str]) -> Iterator[str]:
    """Annotation files in JSON that are missing, cut off or incomplete, of which readers say less, or of other data."""
    for stage in stages:
        name = f'{stage}_dataloader'
        dataset = (cfg.get(name) or {}).get('dataset') or {}
        evaluator = cfg.get(f'{stage}_evaluator') or []
        metrics = [evaluator] if isinstance(evaluator, Mapping) else evaluator
        parts = inner_configs(dataset) if isinstance(dataset, dict) else []
        for part in parts:
            path = _annotation_file(part)
            if path is None:
                continue
            where = f'{name}.dataset' if part is dataset else f'{name}, {short_name(part)}'
            if len(parts) == 1:
                yield from _of_other_boxes(part, path, metrics, stage)
            yield from _misread(part, path, metrics, f'{where}.ann_file={part["ann_file"]}')


def _annotation_file(dataset: dict[str, Any]) -> Optional[Path]:
    """A data set's annotation file in JSON; None if it has none, or MMEngine reads it from elsewhere."""
    given = dataset.get('ann_file')
    if not isinstance(given, str) or not given.endswith('.json'):
        return None
    written = os.path.join(dataset.get('data_root') or '', given)
    backend = (dataset.get('backend_args') or {}).get('backend', 'local')
    return None if '://' in written or backend != 'local' else Path(written)


def _of_other_boxes(
    dataset: dict[str, Any], path: Path, metrics: Sequence[Any], stage: str
) -> Iterator[str]:
    for metric in metrics:
        other = metric.get('ann_file') if isinstance(metric, Mapping) else None
        # Captions, and the boxes of a panoptic data set, have files of their own.
        of_boxes = short_name(metric) in ('CocoMetric', 'LVISMetric')
        if not of_boxes or 'Panoptic' in short_name(dataset):
            continue
        if isinstance(other, str) and os.path.realpath(other) != os.path.realpath(path):
            yield (
                f'{stage}_evaluator.ann_file={other} is not the file of {stage}_dataloader.dataset, {path}: the '
                'figures would be of other boxes. Write the same file in both'
            )


def _misread(
    dataset: dict[str, Any], path: Path, metrics: Sequence[Any], where: str
) -> Iterator[str]:
    if not path.is_file():
        yield f'{where}: there is no file {path}. Write data_root and ann_file as they are on this machine'
        return
    with path.open('rb') as file:
        start = file.read(4096).lstrip()[:1]
        file.seek(max(0, path.stat().st_size - 4096))
        end = file.read().rstrip()[-1:]
    if (start, end) not in ((b'{', b'}'), (b'[', b']')):
        yield f'{where}: {path} is not JSON, or is cut off. Get it again'
    elif short_name(dataset) == 'CocoDataset':
        for problem in missing_fields(path, any(map(_reads_file, metrics))):
            yield f'{where}: {problem}'


def _reads_file(metric: Any) -> bool:
    """Whether pycocotools reads the annotation file itself; without ``ann_file`` MMDetection writes one for it."""
    return (
        isinstance(metric, Mapping)
        and short_name(metric) == 'CocoMetric'
        and bool(metric.get('ann_file'))
        and not metric.get('format_only')
    )


def _classes(cfg: dict[str, Any]) -> Iterator[str]:
    """Classes that are a string, whose letters would be the classes."""
    for _, _, dataset in settings_in(cfg):
        metainfo = dataset.get('metainfo') if isinstance(dataset, Mapping) else None
        classes = metainfo.get('classes') if isinstance(metainfo, Mapping) else None
        if isinstance(classes, str) and not Path(classes).is_file():
            yield (
                f'metainfo of {short_name(dataset)}: classes is the string {classes!r}, neither a file nor a list '
                f"of names: write classes=('{classes}',), with the comma"
            )


def _datasets_keys(cfg: dict[str, Any]) -> Iterator[str]:
    """Arguments that a data set's class does not take, mostly left by the config that it inherits from."""
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        dataset = (cfg.get(name) or {}).get('dataset') or {}
        kind = class_of(dataset, DATASETS, default_scope(cfg, 'mmpretrain')) if dataset else None
        known = _arguments(kind) if isinstance(kind, type) else None
        for key in [key for key in dataset if known and key not in (*known, 'type', '_scope_')]:
            near = nearest(key, known or ())
            hint = f'do you mean {near}? ' if near else ''
            yield (
                f'{name}.dataset: {short_name(dataset)} takes no {key!r}: {hint}If the config that _base_ '
                f"names has it, for another data set, write dataset=dict(_delete_=True, type='"
                f"{short_name(dataset)}', ...) with all that yours needs"
            )


def arguments_of(kind: type) -> set[str]:
    """The names that a class takes, and those of its bases as far as it passes ``**kwargs`` on."""
    return _arguments_and_rest(kind)[0]


def _arguments(kind: type) -> Optional[set[str]]:
    """The names that a class takes, through the ``**kwargs`` of its bases; None if any."""
    names, any_other = _arguments_and_rest(kind)
    return None if any_other else names


def _arguments_and_rest(kind: type) -> tuple[set[str], bool]:
    names: set[str] = set()
    for each in kind.__mro__[:-1]:
        if '__init__' in vars(each):
            parameters = inspect.signature(vars(each)['__init__']).parameters.values()
            names |= {parameter.name for parameter in parameters}
            if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in parameters):
                return names, False
    return names, True
