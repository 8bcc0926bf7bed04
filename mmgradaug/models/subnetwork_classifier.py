"""A classifier with fewer channels than its config says: a sub-network that was taken away."""

from typing import Any

from mmpretrain.models import ImageClassifier

from mmgradaug.registry import MODELS
from mmgradaug.slimming.narrow import narrow_layer


# tools/extract_subnetwork.py writes this class and narrow_layer into a file for users of MMPretrain alone.
@MODELS.register_module()
class SubnetworkClassifier(ImageClassifier):
    """MMPretrain's ImageClassifier, some of whose layers keep only their first channels.

    Args:
        channels: by a layer's name its numbers of channels, [out, in].
        *args, **kwargs: of ``mmpretrain.ImageClassifier``, for the network before that.
    """

    def __init__(self, *args: Any, channels: dict[str, list[int]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, (outputs, inputs) in channels.items():
            narrow_layer(self.get_submodule(name), outputs, inputs)
