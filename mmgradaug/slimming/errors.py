"""The error of networks and layers that have no sub-networks."""


class SlimmingError(ValueError):
    """A network, or one of its layers, that cannot be slimmed as it stands."""
