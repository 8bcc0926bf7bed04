"""ResNet whose sub-networks GradAug trains."""

from collections.abc import Sequence
from typing import Any

from mmpretrain.models.backbones import ResNet

from mmgradaug.models.regularizers import add_regularizers
from mmgradaug.registry import MODELS


@MODELS.register_module()
class SlimmableResNet(ResNet):
    """MMPretrain's ResNet, with regularisers of its residual blocks.

    GradAug narrows any network that it can follow, so a stock ``mmpretrain.ResNet`` serves as well.

    Takes every argument of ``mmpretrain.ResNet``: ``depth`` in {18, 34, 50, 101, 152},
    ``out_indices``, ``frozen_stages``, ``norm_eval``, ``with_cp``, ``init_cfg``, ... The ``-D`` form of
    "Bag of Tricks" (arXiv:1812.01187) is ``deep_stem=True, avg_down=True``, which is
    ``mmpretrain.ResNetV1d``.

    The state_dict has the keys of the stock class. Those of the plain form are the keys of
    ``mmdet.ResNet`` and torchvision's too (without ``fc``). In MMDetection set
    ``out_indices=(0, 1, 2, 3)``, since MMPretrain's default is the last stage alone.

    Example:
        >>> import torch
        >>> from mmgradaug import subnetwork
        >>> from mmgradaug.models import SlimmableResNet
        >>> model = SlimmableResNet(18, stem_channels=16, base_channels=16)
        >>> with subnetwork(model, 0.5):  # what a network gives keeps all its channels
        ...     print(model.conv1.out_channels, model(torch.rand(1, 3, 64, 64))[0].shape)
        8 torch.Size([1, 128, 2, 2])

    Args:
        depth: see above.
        regularizers: of the residual blocks: ShakeDrop, DropPath, DropBlock; see
            :func:`~mmgradaug.models.regularizers.add_regularizers`.
        **kwargs: of ``mmpretrain.ResNet``.

    With ``with_cp`` MMPretrain's blocks move the batch norms' running statistics twice in the full pass, as they
    do in plain training.

    A frozen stage, or a BN with ``norm_eval``, normalises a sub-network with the first entries of the
    full network's running statistics.
    """

    def __init__(
        self, depth: int, regularizers: Sequence[dict[str, Any]] = (), **kwargs: Any
    ) -> None:
        super().__init__(depth, **kwargs)
        add_regularizers(self, regularizers)
