"""What a sub-network is: slimmable layers, the dial that sets their width, conversion in place; depth."""

from .convert import convert_layers, make_slimmable, slimmable_layers, try_subnetworks
from .depth import residual_blocks, without_blocks
from .layers import (
    SlimmableBatchNorm1d,
    SlimmableBatchNorm2d,
    SlimmableBatchNormXd,
    SlimmableConv2d,
    SlimmableConv2dAdaptivePadding,
    SlimmableLinear,
    SlimmableSyncBatchNorm,
    SlimmingError,
    WidthDial,
    kept_channels,
)
from .width import subnetwork

__all__ = [
    'SlimmableBatchNorm1d',
    'SlimmableBatchNorm2d',
    'SlimmableBatchNormXd',
    'SlimmableConv2d',
    'SlimmableConv2dAdaptivePadding',
    'SlimmableLinear',
    'SlimmableSyncBatchNorm',
    'SlimmingError',
    'WidthDial',
    'convert_layers',
    'kept_channels',
    'make_slimmable',
    'residual_blocks',
    'slimmable_layers',
    'subnetwork',
    'try_subnetworks',
    'without_blocks',
]
