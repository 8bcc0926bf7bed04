"""Which number of its validation a config is judged by, asked before any training."""

from collections.abc import Iterator, Mapping
from typing import Any

from mmgradaug.config_types import short_name

# What stands for a whole evaluation, by the metric's name and its default prefix.
KNOWN = {
    'AveragePrecision': ('multi-label', 'mAP'),
    'VOCMetric': ('pascal_voc', 'mAP'),
    'IoUMetric': ('', 'mIoU'),
}
LABELS = {'SingleLabelMetric': 'single-label', 'MultiLabelMetric': 'multi-label'}


def main_metric(cfg: Mapping[str, Any]) -> str:
    """The name under which MMEngine logs it, ``'accuracy/top1'`` for instance.

    Top-1 accuracy where there is one, else what ``default_hooks.checkpoint.save_best`` names, else the
    first number that is known of the evaluator's metrics.

    Raises:
        ValueError: the config does not validate, stops early, or its metric's names are not known.
    """
    metrics = list(_metrics(cfg.get('val_evaluator')))
    if not metrics or cfg.get('val_cfg', {}) is None or cfg.get('val_dataloader', {}) is None:
        raise ValueError(
            'it has no validation, whose result a comparison needs: write val_dataloader, val_evaluator and val_cfg'
        )
    hooks = [*(cfg.get('custom_hooks') or []), *(cfg.get('default_hooks') or {}).values()]
    if any(hook and short_name(hook) == 'EarlyStoppingHook' for hook in hooks):
        raise ValueError(
            'it has an EarlyStoppingHook, and trainings of different lengths do not compare: leave it out of '
            'custom_hooks'
        )
    names = [name for metric in metrics for name in logged_names(metric)]
    top1 = [name for name in names if name.endswith('/top1')]
    best = ((cfg.get('default_hooks') or {}).get('checkpoint') or {}).get('save_best')
    best = [best] if isinstance(best, str) else list(best or [])[:1]
    chosen = [*top1, *(name for name in best if name != 'auto'), *names]
    if not chosen:
        raise ValueError(
            f'what {", ".join(short_name(metric) for metric in metrics)} logs is not known: say which number '
            "counts, default_hooks = dict(checkpoint=dict(save_best='prefix/name'))"
        )
    return chosen[0]


def logged_names(metric: Mapping[str, Any]) -> list[str]:
    """Names of the numbers that a metric of MMPretrain's or MMDetection's logs, the chief one first.

    None for other metrics, and for options that make numbers of each class.
    """
    kind = short_name(metric)
    prefix = metric.get('prefix')
    if kind == 'Accuracy':
        topk, thresholds = metric.get('topk', (1,)), metric.get('thrs', 0.0)
        if isinstance(thresholds, (list, tuple)) and len(thresholds) > 1:
            return []
        names = [f'top{k}' for k in ([topk] if isinstance(topk, int) else topk)]
        return [f'{prefix or "accuracy"}/{name}' for name in names]
    if kind in LABELS:
        average = metric.get('average', 'macro')
        items = metric.get('items', ('precision', 'recall', 'f1-score'))
        if average is None:
            return []
        # F1 says most in one number.
        items = sorted(items, key=lambda item: item != 'f1-score')
        ending = {'macro': '', 'micro': '_micro'}[average]
        if metric.get('thr') not in (None, 0.5):
            ending = f'_thr-{metric["thr"]:.2f}{ending}'
        elif metric.get('thr') is None and metric.get('topk') is not None:
            ending = f'_top{metric["topk"]}{ending}'
        if isinstance(metric.get('thrs'), (list, tuple)) and len(metric['thrs']) > 1:
            return []
        return [f'{prefix or LABELS[kind]}/{item}{ending}' for item in items]
    if kind == 'CocoMetric':
        kinds = metric.get('metric', 'bbox')
        kinds = [kinds] if isinstance(kinds, str) else kinds
        return [f'{prefix or "coco"}/{kind}_mAP' for kind in kinds if kind in ('bbox', 'segm')]
    if kind in KNOWN and metric.get('average', 'macro') is not None:
        default, name = KNOWN[kind]
        return [f'{prefix or default}/{name}'.lstrip('/')]
    return []


def _metrics(evaluator: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(evaluator, Mapping):
        inside = evaluator.get('metrics')
        yield from [evaluator] if inside is None else _metrics(inside)
    else:
        yield from (metric for metric in evaluator or () if isinstance(metric, Mapping))
