"""Regularisers of a network's structure, put into the residual blocks of a backbone."""

from collections.abc import Sequence
from typing import Any, Callable, Union

from mmcv.cnn.bricks import DropPath
from torch import Tensor, nn

from mmgradaug.arguments import refuse_unknown_keys

from .drop_block import DropBlock
from .shake_drop import ShakeDrop


def add_regularizers(
    backbone: nn.Module, regularizers: Union[dict[str, Any], Sequence[dict[str, Any]]]
) -> None:
    """Put regularisers into a backbone's residual blocks, in place; parameters' names do not change.

    Args:
        backbone: with residual blocks that have a ``drop_path``, as MMPretrain's ResNet has, and stages
            named in ``res_layers``.
        regularizers: one or several of

            - ``dict(type='ShakeDrop', last_drop_prob=0.5)``: on every branch's output, the probability
              rising linearly over the blocks, l / L * last_drop_prob (``linear=False``: the same in all);
              other arguments are :class:`ShakeDrop`'s.
            - ``dict(type='DropPath', last_drop_prob=0.1, linear=False)``: branches dropped by image, mmcv's
              ``DropPath``. MMPretrain's own ``drop_path_rate`` is the linear form, from 0 in the first block.
            - ``dict(type='DropBlock', drop_prob=0.1, groups=(3, 4))``: after each normalised convolution of a
              branch, its activation included, and on every shortcut, in these stages (counted from 1);
              group g has drop_prob / 4 ** (4 - g), as in the code of its authors (tensorflow/tpu,
              models/official/resnet/resnet_model.py). Other arguments are :class:`DropBlock`'s.

    Raises:
        KeyError, TypeError, ValueError: a type or key is unknown or out of range, or the backbone has
            nowhere to put it.
    """
    if isinstance(regularizers, dict):
        regularizers = [regularizers]
    for regularizer in regularizers:
        options = dict(regularizer)
        kind = str(options.pop('type', None)).split('.')[-1]
        if kind not in _ADD:
            raise KeyError(
                f'regularizers: {kind!r} is none of {sorted(_ADD)}; Mixup and CutMix are '
                'model.train_cfg.augments, mmgradaug.Cutout is a step of the data pipeline, stochastic depth is '
                'drop_path_rate'
            )
        blocks = [block for block in backbone.modules() if hasattr(block, 'drop_path')]
        if not blocks:
            raise ValueError(
                f'regularizers: {type(backbone).__name__} has no residual blocks with a drop_path to put '
                f'{kind} into; take SlimmableResNet, WideResNet, PyramidNet or SlimmableResNetCIFAR'
            )
        _ADD[kind](backbone, blocks, **options)


def _add_to_branches(
    module_type: type[nn.Module],
    blocks: Sequence[nn.Module],
    last_drop_prob: float = 0.5,
    linear: bool = True,
    **options: Any,
) -> None:
    if not 0.0 <= last_drop_prob < 1.0:
        raise ValueError(
            f'{module_type.__name__}: last_drop_prob is in [0, 1), got {last_drop_prob}'
        )
    refuse_unknown_keys(module_type.__name__, options, module_type)
    for number, block in enumerate(blocks, 1):
        share = number / len(blocks) if linear else 1.0
        _append(block, module_type(drop_prob=share * last_drop_prob, **options))


def _add_shake_drop(_: nn.Module, blocks: Sequence[nn.Module], **options: Any) -> None:
    _add_to_branches(ShakeDrop, blocks, **options)


def _add_drop_path(_: nn.Module, blocks: Sequence[nn.Module], **options: Any) -> None:
    _add_to_branches(DropPath, blocks, **options)


class _OnIdentity(nn.Module):
    """DropBlock in the place of a shortcut that ResNet's blocks have only where the shape changes.

    (N, C, H, W) -> the same shape. A copy in training, because a block that random depth leaves out
    activates its shortcut in place, while the input is still needed.
    """

    def __init__(self, drop_block: DropBlock) -> None:
        super().__init__()
        self.drop_block = drop_block

    def forward(self, x: Tensor) -> Tensor:
        out = self.drop_block(x)
        return out.clone() if out is x and self.training else out


def _add_drop_block(
    backbone: Any,
    blocks: Sequence[nn.Module],
    drop_prob: float = 0.1,
    groups: Sequence[int] = (3, 4),
    **options: Any,
) -> None:
    refuse_unknown_keys('DropBlock', options, DropBlock)
    stages = list(backbone.res_layers)
    if not groups or not set(groups) <= set(range(1, len(stages) + 1)):
        raise ValueError(
            f'DropBlock: groups are stages from 1 to {len(stages)}, got {list(groups)}'
        )
    for group in groups:
        inside = set(getattr(backbone, stages[group - 1]).modules())
        for block in (block for block in blocks if block in inside):
            drop_block = DropBlock(drop_prob / 4 ** (len(stages) - group), **options)
            shortcut = getattr(block, 'downsample', None) or getattr(block, 'projection', None)
            on_shortcut = set() if shortcut is None else set(shortcut.modules())
            convolutions = [
                m for m in block.modules() if isinstance(m, nn.Conv2d) and m not in on_shortcut
            ]
            # In front of the next convolution, since sync_bn replaces the norms behind this one, with
            # whatever hooks they have.
            for convolution in convolutions[1:]:
                convolution.register_forward_pre_hook(drop_block.of_input)
            _append(block, drop_block, first=True)
            if hasattr(block, 'drop_shortcut'):
                block.drop_shortcut = DropBlock(drop_block.drop_prob, **options)
            elif shortcut is not None:
                shortcut.register_forward_hook(drop_block.of_output)
            elif hasattr(block, 'downsample'):
                block.downsample = _OnIdentity(drop_block)


def _append(block: nn.Module, module: nn.Module, first: bool = False) -> None:
    """One more step on the branch's output. The block holds it, so it follows the block's training mode."""
    present = block.get_submodule('drop_path')
    if isinstance(present, nn.Identity):
        block.drop_path = module
    else:
        steps = [module, present] if first else [present, module]
        block.drop_path = nn.Sequential(*steps)


_ADD: dict[str, Callable[..., None]] = {
    'ShakeDrop': _add_shake_drop,
    'DropPath': _add_drop_path,
    'DropBlock': _add_drop_block,
}
