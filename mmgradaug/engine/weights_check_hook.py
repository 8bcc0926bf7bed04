"""Weights that do not fit the model are said in numbers, and refused where they would change nothing."""

from collections.abc import Mapping
from typing import Any, Callable, Optional

from mmengine.hooks import EMAHook, Hook
from mmengine.runner import BaseLoop, Runner
from torch import nn

from mmgradaug.arguments import shown
from mmgradaug.checkpoint import weights_elsewhere
from mmgradaug.loading import LoadingReport, loading_report, on_loading, unwrapped
from mmgradaug.registry import HOOKS

from .pretrained_backbone_hook import (
    PREFIXES,
    brings_whole_model,
    pretrained_inits,
    pretrained_prefix,
    weights_in,
)


@HOOKS.register_module()
class WeightsCheckHook(Hook):
    """Says how many weights a training's files bring; for any config.

    Of the model's, what ``load_from`` brings; of the backbone's, or any part's, what the file of its
    ``init_cfg=dict(type='Pretrained', checkpoint=...)`` brings, by what loading itself says. MMEngine warns of names
    and trains on, from random numbers if it must: a file of torchvision's, whose ``conv1.weight`` is a model's
    ``backbone.conv1.weight``, brings nothing at all as ``load_from``. Where ``load_from`` or ``resume`` brings the
    model, the files of ``init_cfg`` do not count. A resumed training needs all weights of the same network: an
    optimizer's state is of them, and half a network that begins anew is no training that goes on.

    In a config: ``default_hooks = dict(weights_check=dict(type='mmgradaug.WeightsCheckHook'), ...)``.

    Args:
        min_share: in [0, 1]; a file that fits fewer of the weights is an error. Fine-tuning lacks the head's, two of
            hundreds. :class:`PretrainedBackboneHook` asks for all of a backbone's.

    Raises:
        ValueError: before the first iteration, if fewer fit, or not all to resume; the message says what to write.
    """

    priority = 'VERY_HIGH'

    def __init__(self, min_share: float = 0.5) -> None:
        if not 0 <= min_share <= 1:
            raise ValueError(f'WeightsCheckHook: min_share is in [0, 1], got {min_share}')
        self.min_share = min_share
        self._ends: list[Callable[[], None]] = []

    def before_run(self, runner: Runner) -> None:
        if not isinstance(runner._train_loop, BaseLoop):
            return
        if runner._load_from is not None and not runner._resume:
            # Before init_cfg, which may have to download what this replaces.
            self._check_whole_model(runner, weights_in(runner._load_from))
        elif brings_whole_model(runner) is None:
            # The initialisation comes next; files of init_cfg are looked at as it loads them.
            for name, module in unwrapped(runner.model).named_modules():
                inits = pretrained_inits(module)
                if len(inits) == 1:  # several may bring a part each
                    self._watch(runner, f'model.{name}' if name else 'model', module, inits[0])

    def before_train(self, runner: Runner) -> None:
        while self._ends:
            self._ends.pop()()

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        if isinstance(runner._train_loop, BaseLoop) and runner._resume:
            averages = any(isinstance(hook, EMAHook) for hook in runner.hooks)
            if 'ema_state_dict' in checkpoint and not averages:
                file = runner._load_from or 'the checkpoint'
                raise ValueError(
                    f'{file} is of a training with averaged weights, which stand in it in place of the trained ones: '
                    'to go on write the EMAHook (or MeanTeacherHook) that it had into custom_hooks; to begin a new '
                    'training from the averaged weights write load_from=FILE, without --resume'
                )
            self._check_whole_model(runner, checkpoint.get('state_dict', checkpoint))

    def _check_whole_model(self, runner: Runner, weights: Mapping[str, Any]) -> None:
        # As MMEngine does, which drops what DDP adds.
        named = {name.removeprefix('module.'): value for name, value in weights.items()}
        model = unwrapped(runner.model)
        file = runner._load_from or 'the checkpoint'
        report = loading_report(model, named)
        if runner._resume:
            _require_all(report, file, model)
        self._judge(
            runner, model, 'this model', file, report, named,
            lambda examples: _advice_of_load_from(model, file) or examples,
        )  # fmt: skip

    def _watch(self, runner: Runner, place: str, module: nn.Module, init: dict[str, Any]) -> None:
        def then(report: LoadingReport, weights: Mapping[str, Any]) -> None:
            file = init['checkpoint']
            self._judge(
                runner, module, f'{place} ({type(module).__name__})', file, report, weights,
                lambda examples: _advice_of_init_cfg(place, module, init) or examples,
            )  # fmt: skip

        self._ends.append(on_loading(module, then))

    def _judge(
        self,
        runner: Runner,
        model: nn.Module,
        what: str,
        file: str,
        report: LoadingReport,
        weights: Mapping[str, Any],
        advice: Callable[[str], str],
    ) -> None:
        names = _weights_of(model)
        fitting = len(names) - len(report.lacking)
        sentence = f'{file} has {fitting} of the {len(names)} weights of {what}'
        examples = _examples(report.lacking, report.unexpected)
        if fitting < self.min_share * len(names):
            raise ValueError(
                f'{sentence}, so most would be trained from random numbers. '
                f'{weights_elsewhere(weights, file) or advice(examples)}'
            )
        if examples:
            sentence = f'{sentence}. {examples}'
        (runner.logger.warning if report.lacking else runner.logger.info)(sentence)


def _weights_of(model: nn.Module) -> list[str]:
    return [name for name in model.state_dict() if 'num_batches_tracked' not in name]


def _require_all(report: LoadingReport, file: str, model: nn.Module) -> None:
    """Raise ValueError if a checkpoint to resume from is of another network."""
    if not report.lacking and not report.unexpected:
        return
    # What a model leaves out of any file as it loads, such as tables that it computes (Swin V2), is nobody's lack.
    own = loading_report(model, model.state_dict())
    lacking = [name for name in report.lacking if name not in own.lacking]
    unexpected = [name for name in report.unexpected if name not in own.unexpected]
    others = [
        f'{text} {shown(names, 3)}'
        for names, text in (
            (lacking, 'missing there or of another shape:'),
            (unexpected, 'without a place in this model:'),
        )
        if names
    ]
    if others:
        number = len(_weights_of(model))
        raise ValueError(
            f'{file} cannot be resumed: it has {number - len(lacking)} of the {number} weights of this model '
            f'({"; ".join(others)}), and to go on needs the same network. Write the config that it was trained by; '
            'to begin a new training from these weights write load_from=FILE, without --resume'
        )


def _examples(lacking: list[str], unexpected: list[str]) -> str:
    sentences = []
    for names, text in (
        (lacking, 'missing there or of another shape, and begun anew'),
        (unexpected, 'without a place in it, and left out'),
    ):
        if names:
            sentences.append(f'{text}: {shown(names, 3)}')
    text = f'{"; ".join(sentences)}.'
    return text[0].upper() + text[1:] if sentences else ''


def _advice_of_load_from(model: nn.Module, file: str) -> Optional[str]:
    """What to write where the file holds the weights of the backbone, under other names."""
    backbone = getattr(model, 'backbone', None)
    if not isinstance(backbone, nn.Module):
        return None
    try:
        prefix = pretrained_prefix(backbone, file, guess=True)
    except (OSError, ValueError):
        return None
    # PretrainedBackboneHook finds the usual ones by itself.
    more = '' if prefix in PREFIXES else f', prefix={prefix!r}'
    return (
        'It holds all weights of the backbone: leave load_from out, and write model.backbone.init_cfg='
        f"dict(type='Pretrained', checkpoint='{file}'{more}) and custom_hooks=[dict(type="
        "'mmgradaug.PretrainedBackboneHook'), ...]"
    )


def _advice_of_init_cfg(place: str, module: nn.Module, init: dict[str, Any]) -> Optional[str]:
    """What to write where the file holds all weights, whose names begin otherwise."""
    try:
        prefix = pretrained_prefix(module, init['checkpoint'], guess=True)
    except (OSError, ValueError):
        return None
    if prefix == init.get('prefix'):
        return None
    return f'It holds all of them, under other names: write {place}.init_cfg.prefix={prefix!r}'
