"""The error of networks and layers that have no sub-networks."""


class SlimmingError(ValueError):
    """A network, or one of its layers, that cannot be slimmed as it stands.

    Example:
        >>> from torch import nn
        >>> from mmgradaug import plan_channels
        >>> plan_channels(nn.Linear(8, 3))  # one layer: its inputs and outputs are the network's
        Traceback (most recent call last):
            ...
        mmgradaug.slimming.errors.SlimmingError: Linear has no channels that could be narrowed, ...
    """
