"""Fine-tuning from the weights that were meant, or not at all."""

from pathlib import Path
from typing import Optional

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop, CheckpointLoader, Runner
from torch import Tensor, nn

from mmgradaug.registry import HOOKS


@HOOKS.register_module()
class PretrainedBackboneHook(Hook):
    """Checks a backbone's ``init_cfg=dict(type='Pretrained', checkpoint=...)`` before training starts.

    MMEngine loads what fits and goes on with random numbers for the rest. Here the file must be there
    and hold every weight of the backbone. Whether it is a backbone's own state_dict (torchvision's
    ``conv1.weight``) or a whole model's (``backbone.conv1.weight``, as OpenMMLab's classifiers and
    detectors are saved) is found out, and ``prefix`` set to match. ``init_cfg=None`` trains from
    scratch.

    Args:
        produced_by: the config that trains such a checkpoint, for the error message.

    Raises:
        FileNotFoundError: before training, if the file is not there.
        ValueError: before training, if ``init_cfg`` is of another kind, or a weight is missing from
            the file or has another shape.
    """

    priority = 'VERY_HIGH'

    def __init__(self, produced_by: Optional[str] = None) -> None:
        self.produced_by = produced_by

    def before_run(self, runner: Runner) -> None:
        # The weights are loaded right after this, and only if this run trains.
        if not isinstance(runner._train_loop, BaseLoop):
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        backbone = model.backbone
        if backbone.init_cfg is None:
            runner.logger.warning('init_cfg=None: the backbone is trained from scratch')
            return
        if not isinstance(backbone.init_cfg, dict) or backbone.init_cfg.get('type') != 'Pretrained':
            raise ValueError(
                f"the backbone's init_cfg is {backbone.init_cfg!r}: write init_cfg=dict("
                "type='Pretrained', checkpoint=PATH), or init_cfg=None to train from scratch"
            )
        path = backbone.init_cfg['checkpoint']
        if '://' not in path and not Path(path).is_file():
            source = f' It is what {self.produced_by} trains.' if self.produced_by else ''
            raise FileNotFoundError(
                f'the pretrained backbone {path} is not there.{source} Train that first, or write '
                '--cfg-options model.backbone.init_cfg.checkpoint=PATH with the checkpoint of any '
                'such classifier or detector, or torchvision://resnet50 for a plain ResNet-50'
            )
        prefix = pretrained_prefix(backbone, path)
        if prefix:
            backbone.init_cfg['prefix'] = prefix
        else:
            backbone.init_cfg.pop('prefix', None)
        runner.logger.info(f'the backbone starts from all its weights in {path}')


def pretrained_prefix(backbone: nn.Module, path: str) -> str:
    """What stands before the backbone's names in a checkpoint: '' or 'backbone.'.

    Raises:
        ValueError: a weight of the backbone is missing there, or has another shape.
    """
    loaded = CheckpointLoader.load_checkpoint(path, map_location='cpu')
    weights = loaded.get('state_dict', loaded)
    # Before batch norm counted its batches, checkpoints had no such number.
    wanted = {k: v for k, v in backbone.state_dict().items() if 'num_batches_tracked' not in k}

    def missing(prefix: str) -> list[str]:
        return [
            name for name, value in wanted.items() if not fits(weights.get(prefix + name), value)
        ]

    def fits(found: Optional[Tensor], value: Tensor) -> bool:
        return found is not None and found.shape == value.shape

    prefix = min(('', 'backbone.'), key=lambda prefix: len(missing(prefix)))
    lacking = missing(prefix)
    if lacking:
        raise ValueError(
            f'{path} does not hold the weights of this {type(backbone).__name__}: {len(lacking)} of '
            f'{len(wanted)} are missing or of another shape, {prefix}{lacking[0]} for instance'
        )
    return prefix
