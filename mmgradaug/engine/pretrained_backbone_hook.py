"""Fine-tuning from the weights that were meant, or not at all."""

import re
from collections import Counter
from pathlib import Path
from typing import Any, Optional

from mmengine.hooks import Hook
from mmengine.model import PretrainedInit
from mmengine.registry import WEIGHT_INITIALIZERS
from mmengine.runner import BaseLoop, CheckpointLoader, Runner, find_latest_checkpoint
from torch import nn

from mmgradaug.checkpoint import absence_of, weights_elsewhere
from mmgradaug.config_types import is_a
from mmgradaug.loading import LoadingReport, loading_report, unwrapped
from mmgradaug.registry import HOOKS

from .whole_checkpoint_hook import WholeCheckpointHook

# What stands before the backbone's names in files of torchvision and OpenMMLab, some of them saved under DDP.
# (MMEngine itself drops a 'module.' where no prefix is given.)
PREFIXES = (None, 'backbone.', 'module.backbone.')


@HOOKS.register_module()
class PretrainedBackboneHook(Hook):
    """Checks a backbone's ``init_cfg=dict(type='Pretrained', checkpoint=...)`` before training starts.

    MMEngine loads what fits and goes on with random numbers for the rest. Here the file must be there
    and give every weight of the backbone, by what loading itself says after its hooks. Whether it is a backbone's
    own state_dict (torchvision's ``conv1.weight``) or a whole model's (``backbone.conv1.weight``, as
    OpenMMLab's classifiers and detectors are saved) is found out, and ``prefix`` set to match where the
    config's own does not. Other kinds of ``init_cfg``, None among them, train from scratch, which is
    said; a backbone that loads weights as it is made (MMPretrain's ``TIMMBackbone``) is not looked at.
    Where ``load_from`` or ``resume`` brings all of the backbone's weights, the file is not needed.

    Args:
        produced_by: the config that trains such a checkpoint, for the error message.

    Raises:
        FileNotFoundError: before training, if the file is not there.
        TypeError: before training, if the model has no backbone of its own, as semi-supervised detectors.
        ValueError: before training, if a weight is missing from the file or has another shape.
    """

    priority = 'VERY_HIGH'

    def __init__(self, produced_by: Optional[str] = None) -> None:
        self.produced_by = produced_by

    def before_run(self, runner: Runner) -> None:
        # The weights are loaded right after this, and only if this run trains.
        if not isinstance(runner._train_loop, BaseLoop):
            return
        model: Any = unwrapped(runner.model)
        backbone: Any = getattr(model, 'backbone', None)
        if backbone is None:
            raise TypeError(_without_backbone(model))
        pretrained = pretrained_inits(backbone)
        if not pretrained and getattr(backbone, '_is_init', False):
            runner.logger.info(
                f'{type(backbone).__name__} has loaded its weights itself; they are not checked here'
            )
            return
        if not pretrained:
            runner.logger.warning(
                f'the backbone is trained from scratch: its init_cfg is {backbone.init_cfg!r}, not dict('
                "type='Pretrained', checkpoint=PATH)"
            )
            return
        brought_by = brings_whole_model(runner)
        if brought_by is not None and not _lacking(model, brought_by):
            runner.logger.info(f'the backbone starts from {brought_by}, as the whole model')
            others = [init for init in _as_list(backbone.init_cfg) if init not in pretrained]
            backbone.init_cfg = others or None
            return
        for init in pretrained:
            self._check(backbone, init)
            runner.logger.info(f'the backbone starts from all its weights in {init["checkpoint"]}')

    def _check(self, backbone: nn.Module, init: dict[str, Any]) -> None:
        path = init['checkpoint']
        absence = absence_of(path)
        if absence is not None:
            source = f' It is what {self.produced_by} trains.' if self.produced_by else ''
            raise FileNotFoundError(
                f'the pretrained backbone {path} {absence}.{source} Train that first, or write '
                '--cfg-options model.backbone.init_cfg.checkpoint=PATH with the checkpoint of any '
                'such classifier or detector, or torchvision://resnet50 for a plain ResNet-50'
            )
        # A dotted path, as a dumped new-style config has it, MMEngine would load too early.
        init['type'] = 'Pretrained'
        prefix = pretrained_prefix(backbone, path, init.get('prefix'))
        if prefix is None:
            init.pop('prefix', None)
        else:
            init['prefix'] = prefix


def _without_backbone(model: nn.Module) -> str:
    """What to do about a model whose backbones, if any, are in its parts."""
    parts = [name for name, _ in model.named_modules() if name.endswith('.backbone')]
    inside = f', but {" and ".join(parts)}' if parts else ''
    return (
        f'PretrainedBackboneHook checks model.backbone, and {type(model).__name__} has none{inside}: leave the hook '
        'out. To ask for all weights of every file that an init_cfg names write default_hooks=dict(weights_check='
        "dict(type='mmgradaug.WeightsCheckHook', min_share=1.0), ...)"
    )


def pretrained_prefix(
    backbone: nn.Module, path: str, first: Optional[str] = None, guess: bool = False
) -> Optional[str]:
    """What stands before the backbone's names in a checkpoint, as ``init_cfg`` has it; None for nothing.

    Args:
        first: tried before all others.
        guess: take a prefix that is in the file alone too (``encoder_q.0.``), and not only tell of it: whether it is
            the network that was meant, and not its like beside it, its user knows.

    Raises:
        ValueError: a weight of the backbone is missing there, or has another shape.
    """
    weights = weights_in(path)
    reports: dict[Optional[str], LoadingReport] = {}
    for prefix in dict.fromkeys((first, *PREFIXES)):
        reports[prefix] = _report(backbone, weights, prefix)
        if not reports[prefix].lacking:
            return prefix
    best = min(reports, key=lambda prefix: len(reports[prefix].lacking))
    lacking = reports[best].lacking
    number = sum('num_batches_tracked' not in name for name in backbone.state_dict())
    elsewhere = weights_elsewhere(weights, path)
    hint = elsewhere and f'. {elsewhere}' or ''
    likeliest = _likeliest_prefix(backbone, weights)
    if likeliest is not None:
        left = len(_report(backbone, weights, likeliest).lacking)
        if guess and not left:
            return likeliest
        if left < len(lacking):
            hint = (
                f". Under '{likeliest}' it has {number - left} of them: write prefix='{likeliest}' in that init_cfg, "
                'if that is the network meant'
            )
    raise ValueError(
        f'{path} does not hold the weights of this {type(backbone).__name__}: {len(lacking)} of '
        f'{number} are missing or of another shape, {best or ""}{lacking[0]} for instance{hint}'
    )


def _report(backbone: nn.Module, weights: dict[str, Any], prefix: Optional[str]) -> LoadingReport:
    """What loading says of those of a file's weights that have a prefix."""
    # A prefix without its dot gets one from MMEngine.
    start = 'module.' if prefix is None else f'{prefix.rstrip(".")}.'
    named = {name[len(start) :]: v for name, v in weights.items() if name.startswith(start)}
    return loading_report(backbone, {**weights, **named} if prefix is None else named)


def _likeliest_prefix(backbone: nn.Module, weights: dict[str, Any]) -> Optional[str]:
    """What stands before the most of the backbone's names in a file; None if nothing does."""
    own = backbone.state_dict().keys()
    found: Counter[str] = Counter()
    for name in weights:
        parts = name.split('.')
        for place in range(1, len(parts)):
            if '.'.join(parts[place:]) in own:
                found['.'.join(parts[:place]) + '.'] += 1
    return max(found, key=found.__getitem__) if found else None


def weights_in(path: str) -> dict[str, Any]:
    """What MMEngine takes for the weights in a file.

    Raises:
        ValueError: the file holds none by name.
        Exception: what loading raises.
    """
    loaded = CheckpointLoader.load_checkpoint(path, map_location='cpu')
    weights = loaded.get('state_dict', loaded) if isinstance(loaded, dict) else loaded
    if not isinstance(weights, dict):
        raise ValueError(
            f'{path} holds a {type(weights).__name__}, not the weights of a network by name'
        )
    return weights


def _as_list(init_cfg: Any) -> list[dict[str, Any]]:
    if init_cfg is None:
        return []
    return list(init_cfg) if isinstance(init_cfg, (list, tuple)) else [init_cfg]


def pretrained_inits(module: Any) -> list[dict[str, Any]]:
    """Those parts of a module's ``init_cfg`` that load a file, however their type is written."""
    return [
        init
        for init in _as_list(getattr(module, 'init_cfg', None))
        if is_a(init, PretrainedInit, WEIGHT_INITIALIZERS)
    ]


def brings_whole_model(runner: Runner) -> Optional[str]:
    """The checkpoint that the runner loads after the initialisation; None if there is none."""
    if runner._load_from is None and runner._resume:
        whole = [hook for hook in runner.hooks if isinstance(hook, WholeCheckpointHook)]
        if whole:
            whole[0].before_run(runner)  # which decides it, and would later than this is asked
            return runner._load_from
        latest = find_latest_checkpoint(runner.work_dir)  # may be relative to the work dir
        return None if latest is None else str(Path(runner.work_dir) / latest)
    return runner._load_from


def _lacking(model: nn.Module, path: str) -> bool:
    """Whether a checkpoint of a whole model lacks weights of its backbone."""
    weights = weights_in(path)
    start = re.compile(r'^(module\.)?backbone\.')
    named = {start.sub('', name): value for name, value in weights.items() if start.match(name)}
    return bool(loading_report(model.get_submodule('backbone'), named).lacking)
