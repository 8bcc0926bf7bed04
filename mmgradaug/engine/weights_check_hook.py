"""A checkpoint that does not fit the model is said in numbers, and refused where it would change nothing."""

from typing import Any, Optional

from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, Runner
from torch import nn

from mmgradaug.loading import loading_report, unwrapped
from mmgradaug.registry import HOOKS

from .pretrained_backbone_hook import pretrained_prefix


@HOOKS.register_module()
class WeightsCheckHook(Hook):
    """Says how many of a model's weights ``load_from`` brings to a training; for any config.

    MMEngine warns of names and trains on, from random numbers if it must: a file of torchvision's, whose
    ``conv1.weight`` is a model's ``backbone.conv1.weight``, brings nothing at all.

    In a config: ``default_hooks = dict(weights_check=dict(type='mmgradaug.WeightsCheckHook'), ...)``.

    Args:
        min_share: in [0, 1]; a file that fits fewer of the model's weights is an error. Fine-tuning lacks
            the head's, two of hundreds.

    Raises:
        ValueError: before the first iteration, if fewer fit; the message says what to write.
    """

    priority = 'VERY_HIGH'

    def __init__(self, min_share: float = 0.5) -> None:
        if not 0 <= min_share <= 1:
            raise ValueError(f'WeightsCheckHook: min_share is in [0, 1], got {min_share}')
        self.min_share = min_share

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        if not isinstance(runner._train_loop, BaseLoop):
            return
        weights = checkpoint.get('state_dict', checkpoint)
        # As MMEngine does, which drops what DDP adds.
        weights = {
            name[len('module.') :] if name.startswith('module.') else name: value
            for name, value in weights.items()
        }
        model = unwrapped(runner.model)
        report = loading_report(model, weights)
        names = [name for name in model.state_dict() if 'num_batches_tracked' not in name]
        fitting = len(names) - len(report.lacking)
        file = runner._load_from or 'the checkpoint'
        sentence = f'{file} has {fitting} of the {len(names)} weights of this model'
        if fitting < self.min_share * len(names):
            raise ValueError(
                f'{sentence}, so most would be trained from random numbers. '
                f'{_advice(model, file) or _examples(report.lacking, report.unexpected)}'
            )
        if report.lacking or report.unexpected:
            runner.logger.warning(f'{sentence}. {_examples(report.lacking, report.unexpected)}')
        else:
            runner.logger.info(sentence)


def _examples(lacking: list[str], unexpected: list[str]) -> str:
    sentences = []
    for names, text in (
        (lacking, 'missing there or of another shape, and begun anew'),
        (unexpected, 'without a place in the model, and dropped'),
    ):
        if names:
            more = f' and {len(names) - 3} more' if len(names) > 3 else ''
            sentences.append(f'{text}: {", ".join(names[:3])}{more}')
    return f'{"; ".join(sentences)}.'.capitalize()


def _advice(model: nn.Module, file: str) -> Optional[str]:
    """What to write where the file holds the weights of the backbone, under other names."""
    backbone = getattr(model, 'backbone', None)
    if not isinstance(backbone, nn.Module):
        return None
    try:
        pretrained_prefix(backbone, file)
    except (OSError, ValueError):
        return None
    return (
        'It holds all weights of the backbone: leave load_from out, and write model.backbone.init_cfg='
        f"dict(type='Pretrained', checkpoint='{file}') and custom_hooks=[dict(type="
        "'mmgradaug.PretrainedBackboneHook'), ...]"
    )
