"""A classifier with fewer channels than its config says: an extracted sub-network."""

from typing import Any

from mmpretrain.models import ImageClassifier

from mmgradaug.registry import MODELS
from mmgradaug.slimming import shrink


# mmgradaug extract writes this class and shrink() into a file for users of MMPretrain alone.
@MODELS.register_module()
class SubnetworkClassifier(ImageClassifier):
    """MMPretrain's ImageClassifier, some of whose layers have fewer channels.

    Example:
        >>> from mmgradaug.registry import MODELS
        >>> model = MODELS.build(dict(
        ...     type='mmgradaug.SubnetworkClassifier',
        ...     backbone=dict(type='mmpretrain.LeNet5'),
        ...     shapes={'backbone.features.0.weight': [3, 1, 5, 5], 'backbone.features.0.bias': [3],
        ...             'backbone.features.3.weight': [16, 3, 5, 5]},
        ...     attributes={'backbone.features.0': dict(out_channels=3),
        ...                 'backbone.features.3': dict(in_channels=3)}))
        >>> model.backbone.features[0]
        Conv2d(1, 3, kernel_size=(5, 5), stride=(1, 1))

    Args:
        shapes: by name, the shapes of the parameters and buffers that are smaller.
        attributes: by module, attributes that have another value.
        *args, **kwargs: of ``mmpretrain.ImageClassifier``, for the network before that.
    """

    def __init__(
        self,
        *args: Any,
        shapes: dict[str, list[int]],
        attributes: dict[str, dict[str, Any]],
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        shrink(self, shapes, attributes)
